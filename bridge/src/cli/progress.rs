//! A bar on standard error while something takes long.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is done sooner shows no bar.
const PATIENCE: Duration = Duration::from_secs(1);
const REDRAWS_PER_SECOND: u8 = 8;
const BYTES: &str = "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left  {wide_msg}";
const THINGS: &str = "{spinner} {human_pos} THINGS, {per_sec}  {wide_msg}";

/// How far work has come. It is shown on a terminal only, and only when the work has taken a second.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    started: Instant,
    shown: AtomicBool,
}

impl Progress {
    /// Of so many bytes.
    pub(super) fn of_bytes(total: u64) -> Self {
        Self::new(Some(total), BYTES)
    }

    /// Of things whose number nobody knows before the end, such as `rows`.
    pub(super) fn of_unknown(things: &str) -> Self {
        Self::new(None, &THINGS.replace("THINGS", things))
    }

    fn new(total: Option<u64>, template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar()),
        );
        Self { bar, started: Instant::now(), shown: AtomicBool::new(false) }
    }

    /// So much more is done.
    pub(super) fn advance(&self, more: u64) {
        self.bar.inc(more);
        if self.started.elapsed() > PATIENCE && !self.shown.swap(true, Ordering::Relaxed) {
            // This target shows nothing when standard error is no terminal.
            self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND));
        }
    }

    /// Does something that writes to the terminal.
    pub(super) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    /// What is being worked on now.
    pub(super) fn say(&self, what: &str) {
        self.bar.set_message(super::table::plain(what));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_good_and_short_work_shows_nothing() {
        assert!([BYTES, THINGS].iter().all(|it| ProgressStyle::with_template(it).is_ok()));
        for progress in [Progress::of_bytes(10), Progress::of_unknown("rows")] {
            progress.advance(7);
            progress.say("a\nb");
            assert_eq!(
                (progress.bar.position(), progress.bar.message().as_str()),
                (7, "a\u{FFFD}b")
            );
            assert!(!progress.shown.load(Ordering::Relaxed));
        }
    }
}

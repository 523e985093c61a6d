//! Lines of bounded length.

use std::io::{BufRead, Read};

use super::row::{MAX_LINE, Problem, RowError};

/// Reads line after line into one buffer. A line may end in CR LF; a byte order mark before the first is passed over.
#[derive(Debug)]
pub(super) struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    line: u64,
    ended: bool,
}

impl<R: BufRead> Lines<R> {
    pub(super) const fn new(input: R) -> Self {
        Self { input, buffer: Vec::new(), line: 0, ended: false }
    }

    /// The number of the line that was read last, from 1.
    pub(super) const fn line(&self) -> u64 {
        self.line
    }

    /// Nothing more is read.
    pub(super) const fn end(&mut self) {
        self.ended = true;
    }

    /// Whether nothing more comes.
    pub(super) const fn is_ended(&self) -> bool {
        self.ended
    }

    /// The next line without its end. What is too long is passed over, and costs no memory.
    pub(super) fn read(&mut self) -> Option<Result<&str, RowError>> {
        if self.ended {
            return None;
        }
        self.line = self.line.saturating_add(1);
        self.buffer.clear();
        // Its end counts for two, and a byte more tells that it is too long.
        let most = MAX_LINE as u64 + 3;
        let read = self.input.by_ref().take(most).read_until(b'\n', &mut self.buffer);
        let whole = match read {
            Ok(0) => {
                self.ended = true;
                return None;
            }
            Ok(_) => self.buffer.ends_with(b"\n") || (self.buffer.len() as u64) < most,
            Err(error) => return Some(Err(self.failed(&error))),
        };
        if !whole && let Err(error) = skip_line(&mut self.input) {
            return Some(Err(self.failed(&error)));
        }
        let bytes = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let mark = if self.line == 1 { bytes.strip_prefix(b"\xEF\xBB\xBF") } else { None };
        let bytes = mark.unwrap_or(bytes);
        Some(if !whole || bytes.len() > MAX_LINE {
            Err(RowError::new(self.line, Problem::LongLine))
        } else {
            std::str::from_utf8(bytes).map_err(|_| RowError::new(self.line, Problem::NotUtf8))
        })
    }

    fn failed(&mut self, error: &std::io::Error) -> RowError {
        self.ended = true;
        RowError::new(self.line, Problem::Input(error.to_string()))
    }
}

/// Passes over what is left of a line.
fn skip_line(input: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let (used, last) = match input.fill_buf() {
            Ok([]) => return Ok(()),
            Ok(bytes) => match bytes.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (bytes.len(), false),
            },
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        input.consume(used);
        if last {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Vec<Result<String, RowError>> {
        // A small buffer: lines lie across its borders.
        let mut lines = Lines::new(std::io::BufReader::with_capacity(7, text));
        std::iter::from_fn(|| lines.read().map(|line| line.map(str::to_owned))).collect()
    }

    #[test]
    fn a_line_ends_in_lf_or_cr_lf_or_with_the_input() {
        let read = lines(b"\xEF\xBB\xBFone\r\n\ntwo\nthree");
        let read: Vec<_> = read.into_iter().map(Result::unwrap).collect();
        assert_eq!(read, ["one", "", "two", "three"]);
        assert!(lines(b"").is_empty());
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over() {
        let long = vec![b'x'; MAX_LINE];
        assert_eq!(lines(&[&long[..], b"\r\nb"].concat()).len(), 2);
        assert!(lines(&[&long[..], b"\r\nb"].concat()).iter().all(Result::is_ok));
        for more in [1, 2, 3, 100_000] {
            let text = [b"a\n", &long[..], &vec![b'y'; more], b"\nb\n"].concat();
            let read = lines(&text);
            assert_eq!(read[1], Err(RowError::new(2, Problem::LongLine)), "{more}");
            assert_eq!(read[2].as_deref(), Ok("b"));
            assert_eq!(read.len(), 3);
        }
    }

    #[test]
    fn bytes_that_are_no_text_cost_their_line() {
        let read = lines(b"a\n\xFF\xFE\nb");
        assert_eq!(read[1], Err(RowError::new(2, Problem::NotUtf8)));
        assert_eq!(read[2].as_deref(), Ok("b"));
    }

    #[test]
    fn an_input_that_fails_ends_the_list() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::Error::other("the cable is cut"))
            }
        }
        let mut lines = Lines::new(std::io::BufReader::new(Broken));
        let error = lines.read().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "line 1: the input cannot be read: the cable is cut");
        assert!(error.ends() && lines.read().is_none());
    }
}

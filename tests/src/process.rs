//! Starting programs, waiting for them, stopping them.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{ExitStatus, Output, Stdio};

use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::Scene;
use crate::wait::within;

/// Where `tests/install` puts what is no Debian package.
#[must_use]
pub fn tools() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".tools")
}

/// The Python that has grpcio.
#[must_use]
pub fn venv_python() -> PathBuf {
    tools().join("venv/bin/python")
}

/// A script or another file of `tests/programs`.
pub(crate) fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("programs").join(name)
}

/// A program about to be started.
#[derive(Debug)]
pub struct Launch {
    label: String,
    program: OsString,
    args: Vec<OsString>,
    plain_user: bool,
    talk: bool,
    dir: Option<PathBuf>,
}

impl Launch {
    /// The program, and what its log is called.
    pub fn new(label: &str, program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref().to_owned();
        Self {
            label: label.to_owned(),
            program,
            args: Vec::new(),
            plain_user: false,
            talk: false,
            dir: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Runs it in this directory.
    #[must_use]
    pub fn in_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Runs it as nobody when the test runs as root.
    #[must_use]
    pub fn plain_user(mut self) -> Self {
        self.plain_user = true;
        self
    }

    /// Keeps its standard input and output for the caller; else its output goes to the log.
    #[must_use]
    pub fn talk(mut self) -> Self {
        self.talk = true;
        self
    }

    /// Starts it. It is killed when the [`Program`] is dropped, and when the thread that started it ends in any other way.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(self, scene: &Scene) -> Program {
        let log = scene.log(&self.label);
        let file = File::create(&log).expect("a log");
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig=KILL");
        if self.plain_user && is_root() {
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        }
        command.arg(&self.program).args(&self.args).kill_on_drop(true).process_group(0);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command.stderr(file.try_clone().expect("the log again"));
        if self.talk {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        } else {
            command.stdin(Stdio::null()).stdout(file);
        }
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("setpriv {:?}: {error}; ./tests/install", self.program));
        let pid = child.id().expect("a running child");
        Program { label: self.label, child, pid, log }
    }
}

/// A running program.
#[derive(Debug)]
pub struct Program {
    label: String,
    child: Child,
    pid: u32,
    log: PathBuf,
}

impl Program {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it has written to its log.
    #[must_use]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its standard input and output, once, when it was started with [`Launch::talk`].
    pub fn take_pipes(&mut self) -> (ChildStdin, ChildStdout) {
        (self.child.stdin.take().expect("stdin"), self.child.stdout.take().expect("stdout"))
    }

    /// Panics when it has ended.
    pub fn assert_runs(&mut self) {
        if let Some(status) = self.child.try_wait().expect("its state") {
            panic!("{} ended: {status}\n{}", self.label, self.said());
        }
    }

    /// Waits for its end.
    pub async fn ended(&mut self, seconds: u64) -> ExitStatus {
        let what = format!("the end of {}", self.label);
        within(&what, seconds, self.child.wait()).await.expect("its exit status")
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = std::process::Command::new("kill")
            .args([&format!("-{name}"), &self.pid.to_string()])
            .status();
        assert!(sent.is_ok_and(|status| status.success()), "signal {name} to {}", self.label);
    }

    /// Kills it, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("killed");
    }
}

/// Runs a program to its end and gives what it said; panics when it does not end in time.
pub async fn run<S: AsRef<OsStr>>(
    seconds: u64,
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = S>,
) -> Output {
    let mut command = Command::new(program.as_ref());
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let what = format!("{:?}", command.as_std());
    match within(&what, seconds, command.output()).await {
        Ok(output) => output,
        Err(error) => panic!("{what}: {error}; ./tests/install"),
    }
}

/// Runs a program to its end; panics with what it said when it fails.
pub(crate) async fn must<S: AsRef<OsStr>>(
    seconds: u64,
    program: &str,
    args: impl IntoIterator<Item = S>,
) -> String {
    let output = run(seconds, program, args).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program}: {}\n{said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

/// Whether this process is root's.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

//! A network and processes of a test's own.
//!
//! amuled takes no server and no peer in 127/8, so what it takes part in has addresses of 198.51.100.0/24 (RFC 5737). They are there
//! in a network namespace alone, that nothing can leave; ports in it never clash with those of other tests. The test's binary runs
//! itself in there, with a process namespace beside it: whatever it started is gone when it ends, however it ends.

use std::env;
use std::future::Future;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use crate::process::is_root;

/// Set in there.
const INSIDE: &str = "P2P_BRIDGE_IN_NAMESPACE";
/// Seconds after which it is killed: what waits in a test has deadlines of its own, before this.
const SECONDS: u32 = 240;
/// Addresses that are there.
const ADDRESSES: u8 = 9;

/// A TCP port to which nobody can connect, though its owner can listen there: a client behind a router that forwards nothing.
pub const UNREACHABLE_PORT: u16 = 4999;

/// Routing says no where the port is `UNREACHABLE_PORT`, before the table of local addresses says yes.
const SETUP: &str = r#"
set -e
ip link set lo up
for n in $(seq "$1"); do ip addr add "198.51.100.$n/32" dev lo; done
ip rule add pref 100 lookup local
ip rule del pref 0
ip rule add pref 50 ipproto tcp dport "$2" unreachable
shift 2
exec "$@"
"#;

/// The address 198.51.100.`number`.
#[must_use]
pub const fn public(number: u8) -> Ipv4Addr {
    assert!(0 < number && number <= ADDRESSES, "no such address");
    Ipv4Addr::new(198, 51, 100, number)
}

/// Runs a test's body in a namespace of its own. `path` is `module_path!()` and the function's name: see [`in_namespace!`](crate::in_namespace).
///
/// # Panics
/// When the body does.
pub fn run_in_namespace(path: &str, body: impl Future<Output = ()>) {
    if env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        return runtime.expect("a runtime").block_on(body);
    }
    // libtest's names begin behind the crate's.
    let name = path.split_once("::").map_or(path, |(_, name)| name);
    let output = again(&["--exact", name, "--nocapture", "--test-threads=1"]);
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} in its namespace: {}", output.status);
    assert!(said.contains("1 passed"), "no test is called {name}");
}

/// Bytes that have passed over the loopback of this namespace, in all connections, with their headers.
#[must_use]
pub fn bytes_passed() -> u64 {
    let table = std::fs::read_to_string("/proc/net/dev").expect("the interfaces' counts");
    let row = table.lines().find_map(|line| line.trim().strip_prefix("lo:"));
    let received = row.and_then(|row| row.split_whitespace().next()?.parse().ok());
    received.expect("the loopback's count")
}

/// Whether this process is in a namespace of [`reenter`] or of a test.
#[must_use]
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Runs this program in a namespace of its own, with the same arguments, to its end, and gives its exit status: for programs that are no
/// tests.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn reenter() -> i32 {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let status = command(&args, None).status();
    status.unwrap_or_else(|error| panic!("unshare: {error}; ./tests/install")).code().unwrap_or(1)
}

fn again(args: &[&str]) -> std::process::Output {
    let output = command(args, Some(SECONDS)).output();
    output.unwrap_or_else(|error| panic!("unshare: {error}; ./tests/install"))
}

/// This program in new namespaces. Only root may make them; where this is somebody else, the body runs as that user again.
fn command(args: &[&str], seconds: Option<u32>) -> Command {
    let mut words: Vec<String> = Vec::new();
    let mut add = |more: &[&str]| words.extend(more.iter().map(|word| (*word).to_owned()));
    add(&["setpriv", "--pdeathsig=KILL"]);
    if !is_root() {
        add(&["sudo", "-n"]);
    }
    add(&["env", &format!("{INSIDE}=1")]);
    for name in ["PATH", "HOME", "TMPDIR", "P2P_BRIDGE_BIN", "SHOW_LOGS", "RUST_BACKTRACE"] {
        if let Ok(value) = env::var(name) {
            add(&[&format!("{name}={value}")]);
        }
    }
    add(&["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    add(&["sh", "-c", SETUP, "sh", &ADDRESSES.to_string(), &UNREACHABLE_PORT.to_string()]);
    if !is_root() {
        let me = std::fs::metadata("/proc/self").expect("/proc");
        let (user, group) = (format!("--reuid={}", me.uid()), format!("--regid={}", me.gid()));
        add(&["setpriv", &user, &group, "--init-groups"]);
    }
    if let Some(seconds) = seconds {
        add(&["timeout", "--signal=KILL", &seconds.to_string()]);
    }
    let me = env::current_exe().expect("this program's path");
    add(&[me.to_str().expect("a plain path")]);
    add(args);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// Tests whose bodies run in network namespaces of their own: see [`run_in_namespace`](crate::run_in_namespace).
#[macro_export]
macro_rules! in_namespace {
    ($($(#[$meta:meta])* async fn $name:ident() $body:block)+) => {$(
        $(#[$meta])*
        #[test]
        fn $name() {
            $crate::run_in_namespace(concat!(module_path!(), "::", stringify!($name)), async move $body);
        }
    )+};
}

//! The binary `p2p-bridge`.

use std::process::ExitCode;

fn main() -> ExitCode {
    p2p_bridge::cli::main()
}

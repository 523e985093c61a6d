//! One target after the other under libFuzzer: `FUZZ_TARGET` says which.
#![no_main]

use std::sync::OnceLock;

mod targets;

static TARGET: OnceLock<targets::Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
        match targets::target(&wanted) {
            Some(target) => _ = TARGET.set(*target),
            None => {
                eprintln!("FUZZ_TARGET is one of:");
                targets::all().for_each(|target| eprintln!("{}", target.name));
                std::process::exit(2);
            }
        }
    },
    |data: &[u8]| {
        if let Some(target) = TARGET.get() {
            (target.run)(data);
        }
    }
);

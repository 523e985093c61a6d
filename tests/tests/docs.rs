//! The commands that README.md shows are run: every line of its blocks marked `sh` that begins with `p2p-bridge`, or that runs it by cargo.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};

use p2pbridge_tests::{Scene, bridge_binary, run};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_owned()
}

/// Commands in blocks marked `sh`: comments and prompts taken off, lines ending in a backslash joined.
fn commands(markdown: &str) -> Vec<String> {
    let (mut inside, mut found, mut open) = (false, Vec::new(), String::new());
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside && line.trim() == "```sh";
            continue;
        }
        let line = line.split(" #").next().unwrap_or_default().trim();
        if !inside || line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.strip_suffix('\\') {
            Some(part) => open += part,
            None => found.push(std::mem::take(&mut open) + line),
        }
    }
    found
}

/// The bridge's own arguments in a command, when it runs the bridge.
fn of_bridge(command: &str) -> Option<Vec<String>> {
    let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    match words.first()?.as_str() {
        "p2p-bridge" | "target/release/p2p-bridge" | "./target/release/p2p-bridge" => {
            Some(words[1..].to_vec())
        }
        "cargo" if words.get(1).is_some_and(|word| word == "run") => {
            let dashes = words.iter().position(|word| word == "--")?;
            Some(words[dashes + 1..].to_vec())
        }
        _ => None,
    }
}

/// Each command of the bridge that is shown is one that it knows, with the options that are shown: `--help` after its subcommands tells.
#[tokio::test]
async fn shown_commands_exist() {
    let readme = std::fs::read_to_string(repository().join("README.md")).expect("README.md");
    let operating =
        std::fs::read_to_string(repository().join("docs/OPERATING.md")).unwrap_or_default();
    let shown = commands(&format!("{readme}\n{operating}"));
    assert!(!shown.is_empty(), "README.md shows no command");
    let mut seen = 0;
    for command in &shown {
        let Some(words) = of_bridge(command) else { continue };
        seen += 1;
        let known = [
            "serve",
            "check-config",
            "names",
            "bind",
            "unbind",
            "resolve",
            "search",
            "of",
            "publish",
            "torrent",
            "import",
            "magnet",
            "search",
            "watch",
            "map",
            "list",
            "overlays",
            "usage",
            "export",
            "demo",
            "message",
            "decode",
        ];
        let mut args: Vec<&str> =
            words.iter().map(String::as_str).filter(|word| known.contains(word)).take(2).collect();
        args.push("--help");
        let output = run(20, bridge_binary(), &args).await;
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        for option in words.iter().filter(|word| word.starts_with("--")) {
            let option = option.split('=').next().unwrap_or(option);
            assert!(help.contains(option), "{command}: {option} is not in {help}");
        }
    }
    assert!(seen > 0, "README.md shows no command of the bridge");
}

/// Scripts that are shown are there and can be run.
#[test]
fn shown_scripts_exist() {
    let readme = std::fs::read_to_string(repository().join("README.md")).expect("README.md");
    for command in commands(&readme) {
        if let Some(script) =
            command.split_whitespace().next().and_then(|word| word.strip_prefix("./"))
        {
            let built = script.starts_with("target/");
            assert!(built || repository().join(script).is_file(), "{command}: no such file");
        }
    }
}

/// The demonstration that is shown is run as it is shown.
#[tokio::test]
async fn the_shown_demonstration_runs() {
    let readme = std::fs::read_to_string(repository().join("README.md")).expect("README.md");
    let scene = Scene::new();
    let shown = commands(&readme).into_iter().filter_map(|command| of_bridge(&command));
    let demo = shown
        .into_iter()
        .find(|words| words.iter().any(|word| word == "demo"))
        .expect("a demonstration in README.md");
    // A file of the reader's own is not there.
    let demo: Vec<String> = demo
        .into_iter()
        .filter(|word| word == "demo" || word.starts_with("--"))
        .filter(|word| word != "--stay")
        .collect();
    let output = run(60, bridge_binary(), &demo).await;
    assert!(output.status.success(), "{demo:?}: {}", String::from_utf8_lossy(&output.stderr));
    drop(scene);
}

#[test]
fn reads_commands_out_of_markdown() {
    let text = "x\n```sh\n# comment\np2p-bridge serve \\\n  --config a.toml # why\n```\n```toml\nno = 1\n```\n```sh\n./tests/run\n```\n";
    assert_eq!(commands(text), ["p2p-bridge serve --config a.toml", "./tests/run"]);
    assert_eq!(of_bridge("cargo run --release -- demo"), Some(vec!["demo".to_owned()]));
}

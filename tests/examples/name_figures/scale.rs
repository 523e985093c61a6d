//! What a table of 10^4 to 10^7 names costs: taking them in, memory, look-ups, a restart. Each size has processes of its own.

use std::{
    hint::black_box,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use nix::time::{ClockId, clock_gettime};
use p2pbridge_nametable::{NameTable, SledStore, Statement, What};
use p2pbridge_proto::{Evidence, Name, Scheme};
use p2pbridge_tests::load::{Cost, pin_to};

/// The schemes of a content's names.
const SCHEMES: [Scheme; 4] = [Scheme::Ed2k, Scheme::Tth, Scheme::Sha1, Scheme::Btih];
/// Contents that become durable together.
const ROWS: u64 = 5_000;
/// Names that are looked up.
const LOOK_UPS: usize = 2_000_000;
/// Names of one question with many.
const MANY: usize = 1_000;

/// Prints a line for each size, up to so many names.
pub(crate) fn run(most: u64) {
    println!(
        "\nContents of four names, a title of 32 letters and a length; sled; batches of {ROWS} contents"
    );
    println!("look-ups on one core, by its own clock, from names of all schemes to two\n");
    println!(
        "| names | taken in, names/s | longest batch, ms | bytes a name after | of which contents | disk MB | ready after s | bytes a name then | one by one, M/s | by {MANY}, M/s | whole contents, M/s |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for names in [10_000, 100_000, 1_000_000, 10_000_000] {
        if names > most {
            break;
        }
        let dir = tempfile::tempdir().unwrap();
        let [rate, longest, after, counted, disk] = ask("scale-fill", dir.path(), names);
        let [ready, then, single, many, whole] = ask("scale-open", dir.path(), names);
        println!(
            "| {names} | {rate:.0} | {longest:.0} | {after:.0} | {counted:.0} | {disk:.0} | {ready:.2} | {then:.0} | {single:.1} | {many:.1} | {whole:.1} |"
        );
    }
}

/// Figures that a process of its own prints.
fn ask(what: &str, dir: &Path, names: u64) -> [f64; 5] {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([what, dir.to_str().unwrap(), &names.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{what} failed");
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<f64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

/// The child that fills a table.
pub(crate) fn fill(dir: &str, names: u64) {
    let empty = resident();
    let table = open(dir);
    let contents = names / SCHEMES.len() as u64;
    let (mut seconds, mut longest) = (0.0, 0.0f64);
    for start in (0..contents).step_by(ROWS as usize) {
        let rows: Vec<_> = (start..contents.min(start + ROWS)).map(statement).collect();
        let begun = Instant::now();
        let outcomes = table.state(&rows).unwrap();
        let took = begun.elapsed().as_secs_f64();
        assert!(outcomes.iter().all(|outcome| outcome.what == What::Created));
        (seconds, longest) = (seconds + took, longest.max(took));
    }
    assert_eq!(table.counts().names as u64, names);
    let count = names as f64;
    println!(
        "{} {} {} {} {}",
        count / seconds,
        longest * 1e3,
        (resident() - empty) / count,
        table.memory() as f64 / count,
        disk(Path::new(dir)) / 1e6
    );
}

/// The child that opens it again, and asks.
pub(crate) fn reopen(dir: &str, names: u64) {
    let empty = resident();
    let begun = Instant::now();
    let table = open(dir);
    let ready = begun.elapsed().as_secs_f64();
    let then = (resident() - empty) / names as f64;
    assert_eq!(table.counts().names as u64, names);

    pin_to(1);
    let mut random = 1;
    let asked: Vec<Name> = (0..LOOK_UPS).map(|_| nth(splitmix(&mut random) % names)).collect();
    let to = [Scheme::Tth, Scheme::Btih];
    let in_parts = |size| {
        rate(|| {
            let mut found = 0;
            for names in asked.chunks(size) {
                table.translate(names, &to, &mut |_, there| {
                    found += there.names.len();
                    black_box(there.names.first());
                });
            }
            assert_eq!(found, LOOK_UPS * to.len());
        })
    };
    let (single, many) = (in_parts(1), in_parts(MANY));
    let whole = rate(|| {
        for name in &asked {
            black_box(table.content_of(name).unwrap());
        }
    });
    println!("{ready} {then} {single} {many} {whole}");
}

fn open(dir: &str) -> NameTable {
    NameTable::open(Box::new(SledStore::open(Path::new(dir)).unwrap())).unwrap()
}

/// Millions of look-ups a second of this thread's processor time: the best of three, since others may use the memory.
fn rate(ask: impl Fn()) -> f64 {
    let clock = || {
        let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
        now.tv_sec() as f64 + now.tv_nsec() as f64 / 1e9
    };
    let once = |_| {
        let begun = clock();
        ask();
        LOOK_UPS as f64 / 1e6 / (clock() - begun)
    };
    (0..3).map(once).fold(0.0, f64::max)
}

fn statement(content: u64) -> Statement {
    let first = content * SCHEMES.len() as u64;
    Statement {
        content: None,
        names: (first..first + SCHEMES.len() as u64).map(nth).collect(),
        length: Some(content * 1_000 + 7),
        title: format!("Some.Film.Of.Number.{content:08}.mkv"),
        evidence: Evidence::Attested,
        stated_by: "operator, list films.csv".into(),
    }
}

/// The name of a number: those of a content follow each other.
fn nth(number: u64) -> Name {
    let scheme = SCHEMES[number as usize % SCHEMES.len()];
    let mut seed = number;
    let digest: [[u8; 8]; 4] = std::array::from_fn(|_| splitmix(&mut seed).to_le_bytes());
    Name::new(scheme, &digest.as_flattened()[..scheme.digest_len()]).unwrap()
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

fn resident() -> f64 {
    Cost::of(std::process::id()).resident as f64
}

/// Bytes of all files below a directory.
fn disk(dir: &Path) -> f64 {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let size = |path: &Path| std::fs::metadata(path).map_or(0.0, |about| about.len() as f64);
    entries.map(|path| if path.is_dir() { disk(&path) } else { size(&path) }).sum()
}

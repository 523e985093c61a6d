//! What it costs to compute all names of a file: processor time beside that of the bare hash functions, and time beside
//! `rhash`, which computes some of them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use md4::Md4;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use p2pbridge_nametable::digest::{Rules, Wanted, hash_file};
use p2pbridge_tests::{Scene, fill};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tiger::Tiger;

/// Bytes of the file.
const LENGTH: u64 = 1 << 30;
/// Bytes that a bare function takes at once: few enough to stay in the processor's cache.
const AT_ONCE: usize = 256 << 10;
/// What `rhash` computes too, in its words.
const THEIRS: [&str; 5] = ["--ed2k", "--aich", "--tth", "--sha1", "--sha256"];
const SAME: [&str; 5] = ["ed2k", "aich", "tth", "sha1", "sha256"];

/// A hash function, for what it is needed, and the bytes that it compresses for that: messages with their padding.
struct Need {
    function: &'static str,
    run: fn(u64),
    what: &'static str,
    bytes: u64,
}

/// What the rules need of a file of [`LENGTH`] bytes. Messages of whole blocks are padded with one more; a node of two
/// SHA-256 hashes has two blocks, one of two Tiger hashes has one. What is less than a thousandth is left out.
fn needs() -> [Need; 9] {
    let (small, large) = (LENGTH / 1_024, LENGTH / 16_384);
    let need = |function, run, what, bytes| Need { function, run, what, bytes };
    [
        need("SHA-1", bare::<Sha1>, "sha1", LENGTH),
        need("SHA-1", bare::<Sha1>, "aich", LENGTH),
        need("MD4", bare::<Md4>, "ed2k", LENGTH),
        need("Tiger", bare::<Tiger>, "tth", LENGTH + small * (64 + 64)),
        need("SHA-256", bare::<Sha256>, "sha256", LENGTH),
        need("SHA-256", bare::<Sha256>, "unixfs-v0-2015", LENGTH),
        need("SHA-256", bare::<Sha256>, "unixfs-v1-2025", LENGTH),
        need("SHA-256", bare::<Sha256>, "ppspp", LENGTH + small * (64 + 128)),
        need("SHA-256", bare::<Sha256>, "pieces-root, ppspp-16k", LENGTH + large * (64 + 128)),
    ]
}

/// Hashes so many bytes, on all cores at once as the pass does: cores that all work are slower than one alone.
fn bare<D: Digest>(bytes: u64) {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| one_message::<D>(bytes / cores));
        }
    });
}

fn one_message<D: Digest>(bytes: u64) {
    let block = vec![0x5a; AT_ONCE];
    let mut hasher = D::new();
    let mut left = bytes;
    while left > 0 {
        let length = left.min(AT_ONCE as u64);
        hasher.update(&block[..length as usize]);
        left -= length;
    }
    std::hint::black_box(hasher.finalize());
}

/// Prints the table and the ratios.
pub(crate) fn run(rounds: usize) {
    let scene = Scene::new();
    let path = scene.file("content.bin");
    fill(&path, LENGTH, 1);
    let needs = needs();
    let mut functions: Vec<Vec<f64>> = needs.iter().map(|_| Vec::new()).collect();
    let (mut ours, mut same, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        for (need, cpu) in needs.iter().zip(&mut functions) {
            cpu.push(spent(|| (need.run)(need.bytes)).cpu);
        }
        ours.push(spent(|| hash(&path, Rules::all())));
        let rules = SAME.map(|word| Rules::parse(word).unwrap()).into_iter();
        same.push(spent(|| hash(&path, rules.fold(Rules::none(), Rules::with))));
        theirs.push(rhash(&path));
        eprintln!(
            "round {}: all names {:?}, the same as rhash {:?}, rhash {:?}",
            round + 1,
            ours[round],
            same[round],
            theirs[round]
        );
    }
    print(&needs, functions, [ours, same, theirs]);
}

fn print(needs: &[Need], functions: Vec<Vec<f64>>, samples: [Vec<Spent>; 3]) {
    println!("\nAll names of a file of 1 GiB that is in the system's cache, medians\n");
    println!("| bare function | for | MiB with padding | CPU s |\n|---|---|---|---|");
    let mut sum = 0.0;
    for (need, cpu) in needs.iter().zip(functions) {
        let cpu = median(cpu);
        sum += cpu;
        println!("| {} | {} | {} | {cpu:.3} |", need.function, need.what, need.bytes >> 20);
    }
    println!("| sum | | {} | {sum:.3} |", needs.iter().map(|need| need.bytes >> 20).sum::<u64>());
    println!("\n| program | CPU s | time s | MiB/s |\n|---|---|---|---|");
    let labels = ["all names in one pass", "of these what rhash computes", "rhash, the same names"];
    let [ours, same, theirs] = samples.map(|samples| Spent {
        cpu: median(samples.iter().map(|spent| spent.cpu).collect()),
        time: median(samples.iter().map(|spent| spent.time).collect()),
    });
    for (label, spent) in labels.iter().zip([ours, same, theirs]) {
        let rate = (LENGTH >> 20) as f64 / spent.time;
        println!("| {label} | {:.3} | {:.3} | {rate:.0} |", spent.cpu, spent.time);
    }
    println!("\nCPU of the pass ÷ sum of the bare functions = {:.3}", ours.cpu / sum);
    println!("time for the same names ÷ rhash = {:.2}", same.time / theirs.time);
    println!("time for all names ÷ rhash for its own = {:.2}", ours.time / theirs.time);
}

/// What something took, in seconds.
#[derive(Clone, Copy, Debug)]
struct Spent {
    cpu: f64,
    time: f64,
}

fn spent(what: impl FnOnce()) -> Spent {
    measured(UsageWho::RUSAGE_SELF, what)
}

fn measured(who: UsageWho, what: impl FnOnce()) -> Spent {
    let cpu = || {
        let usage = getrusage(who).unwrap();
        let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        Duration::from_micros(micros.unsigned_abs())
    };
    let (before, begun) = (cpu(), Instant::now());
    what();
    let time = begun.elapsed().as_secs_f64();
    Spent { cpu: (cpu() - before).as_secs_f64(), time }
}

fn hash(path: &Path, rules: Rules) {
    let wanted = Wanted { rules, torrent: None, threads: 0 };
    let digests = hash_file(path, &wanted, &|_| ()).unwrap();
    assert_eq!(digests.length, LENGTH);
}

fn rhash(path: &Path) -> Spent {
    measured(UsageWho::RUSAGE_CHILDREN, || {
        let mut command = Command::new("rhash");
        let status = command.args(THEIRS).arg(path).stdout(Stdio::null()).status();
        assert!(status.expect("rhash, which apt-get installs").success(), "rhash failed");
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

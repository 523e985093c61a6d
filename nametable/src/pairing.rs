//! Which file of one proposal is which file of another. Pure.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fmt::Write as _,
};

use p2pbridge_proto::{Evidence, Name, Scheme};

use crate::{BindError, Proposal, ProposedFile, state::excludes};

/// The most proposals of one Bind.
pub const MAX_PROPOSALS: usize = 1_000;

/// The most files of one Bind, all its proposals together.
pub const MAX_FILES: usize = 500_000;

/// A file of a proposal: the proposal's number, and the file's.
pub(crate) type Node = (usize, usize);

/// What pairing found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pairing {
    /// Files that are the same content; those of zero length are not among them.
    pub(crate) same: Vec<(Node, Node)>,
    /// What the descriptions alone prove of each proposal: [`Evidence::Verified`] where every file that is not empty
    /// has a collision-resistant digest that a counterpart has too, on both sides.
    pub(crate) evidence: Vec<Evidence>,
}

/// Pairs the files of all proposals with those of the one that has most files.
///
/// # Errors
/// When a file of a smaller proposal has no counterpart, or only ones with other digests.
pub(crate) fn pair(proposals: &[Proposal]) -> Result<Pairing, BindError> {
    let mut pairing =
        Pairing { same: Vec::new(), evidence: vec![Evidence::Attested; proposals.len()] };
    let filled = |at: usize| proposals[at].files.iter().filter(|file| file.length > 0).count();
    let Some(hub) = (0..proposals.len()).rev().max_by_key(|at| filled(*at)) else {
        return Err(BindError::Empty);
    };
    for (at, proposal) in proposals.iter().enumerate() {
        if filled(at) == 0 {
            return Err(BindError::NoBytes { label: proposal.label.clone() });
        }
        same_in_one(at, proposal, &mut pairing.same);
    }
    for at in (0..proposals.len()).filter(|at| *at != hub) {
        let pairs = Matcher::new(&proposals[at], &proposals[hub]).run()?;
        if proves(&proposals[at], &proposals[hub], &pairs) {
            pairing.evidence[at] = Evidence::Verified;
            pairing.evidence[hub] = Evidence::Verified;
        }
        pairing.same.extend(pairs.into_iter().map(|(small, large)| ((at, small), (hub, large))));
    }
    Ok(pairing)
}

/// Files of one proposal that bear the same digest are the same content at several places.
fn same_in_one(at: usize, proposal: &Proposal, same: &mut Vec<(Node, Node)>) {
    let mut first = HashMap::new();
    for (file, digest, length) in digests(proposal) {
        let known = *first.entry((digest, length)).or_insert(file);
        if known != file {
            same.push(((at, known), (at, file)));
        }
    }
}

/// The files that have bytes and a digest: number, digest, length.
fn digests(proposal: &Proposal) -> impl Iterator<Item = (usize, Name, u64)> + '_ {
    let filled = proposal.files.iter().enumerate().filter(|(_, file)| file.length > 0);
    filled.filter_map(|(at, file)| Some((at, file.digest?, file.length)))
}

/// Whether equal strong digests show that two proposals have the same contents, all of them.
fn proves(small: &Proposal, large: &Proposal, pairs: &[(usize, usize)]) -> bool {
    let proven: Vec<_> = pairs
        .iter()
        .filter(|(one, other)| {
            let (one, other) = (small.files[*one].digest, large.files[*other].digest);
            one.is_some() && one == other && one.is_some_and(|name| name.scheme().is_strong())
        })
        .collect();
    let filled = |proposal: &Proposal| proposal.files.iter().filter(|file| file.length > 0).count();
    let covered: BTreeSet<_> = proven.iter().map(|(_, other)| other).collect();
    proven.len() == filled(small) && covered.len() == filled(large)
}

/// Finds, for each file of the smaller proposal, its counterpart in the larger.
struct Matcher<'a> {
    small: &'a Proposal,
    large: &'a Proposal,
    used: Vec<bool>,
    /// By file of the smaller one.
    found: Vec<Option<usize>>,
}

impl<'a> Matcher<'a> {
    fn new(small: &'a Proposal, large: &'a Proposal) -> Self {
        let (used, found) = (vec![false; large.files.len()], vec![None; small.files.len()]);
        Self { small, large, used, found }
    }

    /// Strongest reasons first; each reason is tried for all files before the next.
    fn run(mut self) -> Result<Vec<(usize, usize)>, BindError> {
        self.by_digest();
        self.by_key(|file| file.path.as_str());
        self.by_key(|file| file.path.rsplit('/').next().unwrap_or_default());
        self.by_order()?;
        let found = self.found.into_iter().enumerate();
        Ok(found.filter_map(|(small, large)| Some((small, large?))).collect())
    }

    /// Files still without a counterpart.
    fn open(&self) -> Vec<usize> {
        let files = self.small.files.iter().zip(&self.found).enumerate();
        files.filter(|(_, (file, found))| file.length > 0 && found.is_none()).map(|f| f.0).collect()
    }

    /// Files that may still become a counterpart.
    fn free(&self) -> impl DoubleEndedIterator<Item = (usize, &'a ProposedFile)> + '_ {
        let files = self.large.files.iter().enumerate();
        files.filter(|(at, file)| file.length > 0 && !self.used[*at])
    }

    fn take(&mut self, small: usize, large: usize) {
        self.found[small] = Some(large);
        self.used[large] = true;
    }

    /// Equal digest and length. Copies may all have the one counterpart, when it is the only one.
    fn by_digest(&mut self) {
        let mut same: HashMap<_, VecDeque<usize>> = HashMap::new();
        let mut by_path = HashMap::new();
        for (at, digest, length) in digests(self.large) {
            same.entry((digest, length)).or_default().push_back(at);
            by_path.insert((digest, length, self.large.files[at].path.as_str()), at);
        }
        let small = self.small;
        for (at, digest, length) in digests(small) {
            if let Some(large) = by_path.get(&(digest, length, small.files[at].path.as_str())) {
                self.take(at, *large);
            }
        }
        for (at, digest, length) in digests(small) {
            let Some(queue) = same.get_mut(&(digest, length)) else { continue };
            while queue.len() > 1 && queue.front().is_some_and(|large| self.used[*large]) {
                queue.pop_front();
            }
            if let (Some(large), None) = (queue.front(), self.found[at]) {
                let large = *large;
                self.take(at, large);
            }
        }
    }

    /// Equal length, and an equal text of the path.
    fn by_key(&mut self, key: impl Fn(&'a ProposedFile) -> &'a str) {
        let mut same: HashMap<_, usize> = HashMap::new();
        for (at, file) in self.free().rev() {
            same.insert((file.length, key(file)), at);
        }
        let small = self.small;
        for at in self.open() {
            let file = &small.files[at];
            if let Some(large) = same.get(&(file.length, key(file)))
                && !self.used[*large]
                && compatible(file, &self.large.files[*large])
            {
                self.take(at, *large);
            }
        }
    }

    /// Equal length, in order. Files with digests choose first, since they can be paired with fewer others.
    fn by_order(&mut self) -> Result<(), BindError> {
        let mut free: HashMap<u64, Vec<Queue>> = HashMap::new();
        for (at, file) in self.free() {
            let scheme = file.digest.map(|digest| digest.scheme());
            let queues = free.entry(file.length).or_default();
            match queues.iter_mut().find(|queue| queue.0 == scheme) {
                Some(queue) => queue.1.push_back(at),
                None => queues.push((scheme, VecDeque::from([at]))),
            }
        }
        let small = self.small;
        let mut open = self.open();
        open.sort_by_key(|at| small.files[*at].digest.is_none());
        for at in open {
            let file = &small.files[at];
            // All with an equal digest have been paired: another of the same scheme is another content, as a rule.
            let fitting = free.get_mut(&file.length).into_iter().flatten();
            let fits = |queue: &Queue| {
                let first = queue.1.front().and_then(|at| self.large.files.get(*at));
                first.is_some_and(|large| compatible(file, large))
            };
            let first =
                fitting.filter(|queue| fits(queue)).min_by_key(|queue| queue.1.front().copied());
            match first.and_then(|queue| queue.1.pop_front()) {
                Some(large) => self.take(at, large),
                None => return Err(self.refusal(file)),
            }
        }
        Ok(())
    }

    /// Why a file of the smaller one stays alone.
    fn refusal(&self, file: &ProposedFile) -> BindError {
        let rival = self.large.files.iter().find(|other| other.length == file.length);
        match rival {
            Some(other) if !compatible(file, other) => BindError::DigestsDiffer {
                label: self.small.label.clone(),
                path: shown(&file.path),
                other_label: self.large.label.clone(),
                other_path: shown(&other.path),
            },
            _ => BindError::NoCounterpart {
                label: self.small.label.clone(),
                path: shown(&file.path),
                length: file.length,
                other_label: self.large.label.clone(),
                others: self.lengths_near(file.length, rival.is_some()),
            },
        }
    }

    /// Says which lengths there are instead.
    fn lengths_near(&self, length: u64, taken: bool) -> String {
        const SHOWN: usize = 5;
        if taken {
            return "each of its files of this length has another counterpart".to_owned();
        }
        let lengths: BTreeSet<u64> = self.large.files.iter().map(|file| file.length).collect();
        let mut near: Vec<u64> = lengths.iter().copied().filter(|other| *other > 0).collect();
        near.sort_by_key(|other| other.abs_diff(length));
        let left = near.len().saturating_sub(SHOWN);
        near.truncate(SHOWN);
        let mut text = near.into_iter().map(grouped).collect::<Vec<_>>().join(", ");
        text = format!("its files have {text} bytes");
        if left > 0 {
            let _ = write!(text, " and {left} lengths further off");
        }
        text
    }
}

/// Files of one length whose digests are of one scheme, in order.
type Queue = (Option<Scheme>, VecDeque<usize>);

/// Whether digests allow that two files of the same length are the same.
fn compatible(one: &ProposedFile, other: &ProposedFile) -> bool {
    let digests = one.digest.zip(other.digest);
    digests.is_none_or(|(digest, rival)| !excludes(&digest, &rival, Some(one.length)))
}

/// A path for people: without control characters, and not too long.
pub(crate) fn shown(path: &str) -> String {
    const MOST: usize = 200;
    let mut text: String = path.chars().take(MOST).flat_map(char::escape_debug).collect();
    if path.chars().nth(MOST).is_some() {
        text.push('…');
    }
    text
}

/// A number with its thousands apart: `1,048,576`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proposal of files `(path, length, digest)`; digest 0 is none.
    fn proposal(label: &str, files: &[(&str, u64, u8)]) -> Proposal {
        let mut offset = 0;
        let files = files.iter().map(|(path, length, digest)| {
            let digest = Name::with_32(Scheme::PiecesRoot, [*digest; 32]).filter(|_| *digest > 0);
            let file = ProposedFile { path: (*path).to_owned(), offset, length: *length, digest };
            offset += length;
            file
        });
        let files = files.collect();
        Proposal {
            names: vec![Name::btih([label.as_bytes()[0]; 20])],
            title: label.to_owned(),
            length: offset,
            unit: 16,
            files,
            overlays: vec![],
            label: label.to_owned(),
            stated_by: "test".to_owned(),
            description: None,
        }
    }

    fn pairs(small: &[(&str, u64, u8)], large: &[(&str, u64, u8)]) -> Vec<(usize, usize)> {
        let pairing = pair(&[proposal("L", large), proposal("S", small)]).unwrap();
        let across = pairing.same.into_iter().filter(|(one, other)| one.0 != other.0);
        across.map(|(one, other)| (one.1, other.1)).collect()
    }

    #[test]
    fn a_unique_length_is_enough() {
        assert_eq!(pairs(&[("a", 7, 0)], &[("x", 5, 0), ("y", 7, 0)]), vec![(0, 1)]);
    }

    #[test]
    fn among_equal_lengths_the_path_decides_then_its_end_then_the_order() {
        let large = [("d/a", 7, 0), ("d/b", 7, 0), ("c", 7, 0), ("e", 7, 0)];
        assert_eq!(
            pairs(&[("new", 7, 0), ("b", 7, 0), ("c", 7, 0)], &large),
            [(0, 0), (1, 1), (2, 2)]
        );
        assert_eq!(pairs(&[("d/b", 7, 0), ("d/a", 7, 0)], &large), [(0, 1), (1, 0)]);
        assert_eq!(pairs(&[("x", 7, 0), ("y", 7, 0)], &large), [(0, 0), (1, 1)]);
    }

    #[test]
    fn a_digest_beats_the_path() {
        let large = [("a", 7, 2), ("b", 7, 1)];
        assert_eq!(pairs(&[("a", 7, 1), ("b", 7, 2)], &large), [(0, 1), (1, 0)]);
    }

    #[test]
    fn copies_within_a_name_are_one_content() {
        let pairing = pair(&[proposal("L", &[("a", 7, 1), ("b", 7, 1), ("c", 9, 2)])]).unwrap();
        assert_eq!(pairing.same, vec![((0, 0), (0, 1))]);
        assert_eq!(
            pairs(&[("x", 7, 1), ("y", 7, 1)], &[("a", 7, 1), ("c", 9, 2)]),
            [(0, 0), (1, 0)]
        );
    }

    #[test]
    fn only_strong_digests_of_every_file_on_both_sides_are_proof() {
        let evidence = |one: &[_], two: &[_]| {
            pair(&[proposal("A", one), proposal("B", two)]).unwrap().evidence
        };
        use Evidence::{Attested, Verified};
        assert_eq!(evidence(&[("a", 7, 1), ("z", 0, 0)], &[("b", 7, 1)]), [Verified, Verified]);
        assert_eq!(evidence(&[("a", 7, 1)], &[("b", 7, 0)]), [Attested, Attested]);
        assert_eq!(evidence(&[("a", 7, 1), ("c", 8, 2)], &[("b", 7, 1)]), [Attested, Attested]);
        assert_eq!(
            evidence(&[("a", 7, 1), ("c", 8, 0)], &[("b", 7, 1), ("c", 8, 2)]),
            [Attested, Attested]
        );
        assert_eq!(pair(&[proposal("A", &[("a", 7, 1)])]).unwrap().evidence, [Attested]);
    }

    #[test]
    fn says_which_file_has_no_counterpart() {
        let one = proposal("A.torrent", &[("f", 1_048_575, 0)]);
        let two = proposal("B.torrent", &[("x/y.bin", 1_048_576, 0)]);
        assert_eq!(
            pair(&[one, two]).unwrap_err().to_string(),
            "B.torrent: `x/y.bin` (1,048,576 bytes) has no counterpart in A.torrent; its files have 1,048,575 bytes"
        );
        let one = proposal("A", &[("a", 5, 0), ("b", 7, 0), ("c", 6, 0)]);
        let two = proposal("B", &[("a", 5, 0), ("b", 5, 0)]);
        assert_eq!(
            pair(&[one, two]).unwrap_err().to_string(),
            "B: `b` (5 bytes) has no counterpart in A; each of its files of this length has another counterpart"
        );
    }

    #[test]
    fn files_with_other_digests_are_never_paired() {
        let one = proposal("A", &[("a", 7, 1)]);
        let two = proposal("B", &[("a", 7, 2)]);
        assert_eq!(
            pair(&[one, two]).unwrap_err().to_string(),
            "B: `a` and `a` in A have the same length, but other digests: they are not the same content"
        );
        assert_eq!(
            pairs(&[("p", 7, 0), ("q", 7, 3)], &[("a", 7, 1), ("b", 7, 0)]),
            [(0, 0), (1, 1)]
        );
    }

    #[test]
    fn empty_files_alone_make_no_binding() {
        let empty = proposal("A", &[("a", 0, 0)]);
        assert!(matches!(pair(&[empty.clone(), empty.clone()]), Err(BindError::NoBytes { .. })));
        assert!(matches!(pair(&[empty]), Err(BindError::NoBytes { .. })));
        assert!(matches!(pair(&[]), Err(BindError::Empty)));
        assert_eq!(pairs(&[("z", 0, 0), ("a", 7, 0)], &[("a", 7, 0)]), [(1, 0)]);
    }

    #[test]
    fn the_largest_is_what_all_others_are_paired_with() {
        let all = [
            proposal("B", &[("one", 1, 0)]),
            proposal("A", &[("one", 1, 0), ("two", 2, 0)]),
            proposal("C", &[("two", 2, 0)]),
        ];
        assert_eq!(pair(&all).unwrap().same, [((0, 0), (1, 0)), ((2, 0), (1, 1))]);
    }

    #[test]
    fn very_many_files_of_one_length_pair_quickly() {
        let paths: Vec<String> = (0..40_000).map(|at| format!("p{at}")).collect();
        let many = |first: char| {
            let paths = paths.iter().map(|path| format!("{first}{path}")).collect::<Vec<_>>();
            let files: Vec<_> = paths.iter().map(|path| (path.as_str(), 7, 0)).collect();
            proposal("A", &files)
        };
        assert_eq!(pair(&[many('a'), many('b')]).unwrap().same.len(), 40_000);
    }
}

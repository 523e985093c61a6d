//! Which names cannot be of the same bytes. Pure.

use std::collections::BTreeSet;

use p2pbridge_proto::{Evidence, Name, Scheme};

use super::best;
use crate::{Content, digest};

/// Whether two names cannot be of the same bytes, of which there are so many.
pub(crate) fn excludes(one: &Name, other: &Name, length: Option<u64>) -> bool {
    let differ = one.digest() != other.digest();
    match (one.scheme(), other.scheme()) {
        // A raw block is named by the plain hash of its bytes.
        (Scheme::CidRaw, Scheme::Sha256) | (Scheme::Sha256, Scheme::CidRaw) => differ,
        (one, other) => one == other && differ && digest::variants(one, length) == Some(1),
    }
}

/// What in one content contradicts another.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Clash {
    /// The names of the content that contradict, each with the name that it contradicts.
    pub(super) names: Vec<(Name, Name)>,
    /// Both lengths are known, and differ.
    pub(super) length: Option<(u64, u64)>,
    /// How well known the best of what contradicts is in the content.
    pub(super) evidence: Option<Evidence>,
}

impl Clash {
    /// What of `content` contradicts `names` of so many bytes.
    pub(super) fn of(content: &Content, names: &[Name], length: Option<u64>) -> Self {
        let mut clash = Self::default();
        if let (Some(old), Some(new)) = (content.length, length)
            && old != new
        {
            clash.length = Some((old, new));
            clash.evidence = Some(best(content));
        }
        for known in &content.names {
            let rival = names.iter().find(|name| {
                excludes(&known.name, name, length.or(content.length))
                    // Two values of one scheme that both sides know are no news.
                    && !names.contains(&known.name)
            });
            if let Some(rival) = rival {
                clash.names.push((known.name, *rival));
                clash.evidence = clash.evidence.max(Some(known.evidence));
            }
        }
        clash.one_too_many(content, names, length.or(content.length));
        clash
    }

    /// Where the same bytes have several names of a scheme: what of the content is one too many beside what both sides say.
    fn one_too_many(&mut self, content: &Content, names: &[Name], length: Option<u64>) {
        let schemes: BTreeSet<Scheme> = names.iter().map(Name::scheme).collect();
        for scheme in schemes {
            let Some(most @ 2..) = digest::variants(scheme, length) else { continue };
            let said: BTreeSet<&Name> =
                names.iter().filter(|name| name.scheme() == scheme).collect();
            let Some(rival) = said.first().copied() else { continue };
            let mut mine: Vec<_> = content
                .of_scheme(scheme)
                .filter(|known| !said.contains(&known.name))
                .filter(|known| self.names.iter().all(|(name, _)| *name != known.name))
                .collect();
            mine.sort_by_key(|known| std::cmp::Reverse(known.evidence));
            for known in mine.iter().skip(most.saturating_sub(said.len())) {
                self.names.push((known.name, *rival));
                self.evidence = self.evidence.max(Some(known.evidence));
            }
        }
    }

    /// The contradiction in words.
    pub(super) fn words(&self, link: &Name) -> String {
        match (self.length, self.names.first()) {
            (Some((old, new)), _) => {
                format!("{link} is known to be of {old} bytes, not {new}")
            }
            (None, Some((old, new))) => {
                format!(
                    "{link} is known to be the same bytes as {old}, which are not those of {new}"
                )
            }
            (None, None) => format!("{link} is known otherwise"),
        }
    }
}

//! A statement and the contents that it speaks of, becoming one: what joins, what stays apart, what yields. Pure.

use std::{cmp::Reverse, sync::Arc, time::SystemTime};

use p2pbridge_proto::{ContentId, Evidence, Name};

use super::{best, clash::Clash};
use crate::{Content, EMPTY_CONTENT, Known, MAX_CONTENT_NAMES, Statement};

/// A content to which a statement may belong.
pub(super) struct Candidate {
    pub(super) content: Content,
    /// The names by which it is linked; empty when it is only the one that the statement is said to be of.
    pub(super) links: Vec<Name>,
    /// The statement is said to be of it.
    pub(super) anchored: bool,
    /// Bindings have it.
    pub(super) bound: bool,
    /// One of the links is a binding's own name of it.
    pub(super) owned: bool,
}

impl Candidate {
    /// The heaviest stays: that which is best known, which bindings have, which is meant.
    pub(super) fn weight(&self) -> (Evidence, bool, bool, usize, ContentId) {
        let Self { content, anchored, bound, .. } = self;
        (best(content), *bound, *anchored, content.names.len(), content.id)
    }
}

/// Why a statement is not taken.
pub(super) struct Refusal {
    pub(super) text: String,
    /// What it contradicts is verified, and so is it.
    pub(super) alarm: bool,
}

impl Refusal {
    fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), alarm: false }
    }
}

/// A statement and the contents that it is of, becoming one.
pub(super) struct Merge {
    /// What is known then.
    pub(super) base: Content,
    /// The content with this id, as it was.
    pub(super) old: Option<Content>,
    /// Contents that become this one, each with whether that is proven.
    pub(super) others: Vec<(ContentId, bool)>,
    /// Contents that were linked by a name that is not theirs, without it.
    pub(super) apart: Vec<Content>,
    /// Names that proved false.
    pub(super) dropped: Vec<Name>,
}

/// How a statement is linked to a content.
struct Link {
    /// How well it is known that the linking names are of the content.
    evidence: Evidence,
    /// One of them cannot be forged.
    strong: bool,
    /// They are of what is best known of the content.
    core: bool,
    bound: bool,
    anchored: bool,
}

impl Merge {
    pub(super) fn new(
        statement: &Statement,
        candidates: Vec<Candidate>,
        now: SystemTime,
    ) -> Result<Self, Refusal> {
        let base = Content { id: EMPTY_CONTENT, length: None, title: String::new(), names: vec![] };
        let mut merge =
            Self { base, old: None, others: Vec::new(), apart: Vec::new(), dropped: Vec::new() };
        let mut first: Option<(Link, Evidence)> = None;
        for candidate in candidates {
            let Some((content, link)) = merge.fit(statement, candidate)? else { continue };
            if let Some((first, cap)) = &first {
                merge.join(statement, (first, *cap), content, &link)?;
            } else {
                let cap = link.cap(statement, &content);
                merge.old = Some(content.clone()).filter(|old| !old.names.is_empty());
                merge.base = content;
                first = Some((link, cap));
            }
        }
        merge.add(statement, first.map_or(statement.evidence, |(_, cap)| cap), now);
        merge.bound(statement)?;
        Ok(merge)
    }

    /// Looks whether a content agrees with the statement. Gives it, without what yields; or nothing, when it turns out that
    /// it is not meant.
    fn fit(
        &mut self,
        statement: &Statement,
        candidate: Candidate,
    ) -> Result<Option<(Content, Link)>, Refusal> {
        let Candidate { mut content, links, anchored, bound, owned } = candidate;
        let says = statement.evidence;
        let of_link = links.iter().filter_map(|name| content.known(name));
        let linked = of_link.map(|known| known.evidence).max().unwrap_or(Evidence::Hint);
        let linked = match (anchored, owned) {
            (true, _) => Evidence::Verified,
            // What a binding has is its content by definition.
            (false, true) => linked.max(best(&content)),
            (false, false) => linked,
        };
        let strong = anchored || links.iter().any(|name| name.scheme().is_strong());
        let core = anchored || linked == best(&content);
        let link = Link { evidence: linked, strong, core, bound, anchored };
        let clash = Clash::of(&content, &statement.names, statement.length);
        // What was hashed is not made a hint by a hint: the name goes where its bytes are.
        let goes = !core && says == Evidence::Verified && statement.names.len() > links.len();
        let Some(against) = clash.evidence else {
            if goes {
                content.names.retain(|known| !links.contains(&known.name));
                self.apart.push(content);
                return Ok(None);
            }
            return Ok(Some((content, link)));
        };
        let shown = links.first().or(statement.names.first());
        let refusal = || Refusal {
            text: shown.map_or_else(String::new, |name| clash.words(name)),
            alarm: says == Evidence::Verified,
        };
        if linked < against || goes {
            if says <= linked {
                return Err(refusal());
            }
            // The link is what is least well known: the name was never of that content.
            content.names.retain(|known| !links.contains(&known.name));
            self.dropped.extend(links);
            self.apart.push(content);
            return Ok(None);
        }
        if says <= against {
            return Err(refusal());
        }
        let length_yields = clash.length.is_some();
        let yields = |known: &Known| {
            let rival = clash.names.iter().any(|(old, _)| *old == known.name);
            // Who was wrong about the length meant other bytes.
            let with_length =
                length_yields && known.evidence < says && !statement.names.contains(&known.name);
            rival || with_length
        };
        self.dropped.extend(content.names.iter().filter(|k| yields(k)).map(|known| known.name));
        content.names.retain(|known| !yields(known));
        if length_yields {
            content.length = statement.length;
        }
        Ok(Some((content, link)))
    }

    /// Takes another content in, when what links them allows that and they do not contradict each other.
    fn join(
        &mut self,
        statement: &Statement,
        (first, cap): (&Link, Evidence),
        mut other: Content,
        link: &Link,
    ) -> Result<(), Refusal> {
        let says = statement.evidence;
        let anchored = statement.content.is_some();
        let proven = says == Evidence::Verified;
        let both_bound = first.bound && link.bound;
        // A link that is less well known than what it leads to would pull that down.
        let lowers = best(&other) > link.cap(statement, &other).min(cap);
        if !proven && (lowers || (both_bound && !anchored)) {
            return Err(Refusal::plain(
                "it makes one of two contents that are better known apart: bind their descriptions, or publish the bytes",
            ));
        }
        let sure = |content: &Content| {
            content.names.iter().any(|known| {
                known.evidence == Evidence::Verified && !statement.names.contains(&known.name)
            })
        };
        if proven && ((!link.strong && sure(&other)) || (!first.strong && sure(&self.base))) {
            return Err(Refusal {
                text: "hashes that can be forged are all that two verified contents have in common"
                    .to_owned(),
                alarm: true,
            });
        }
        self.settle(statement, &mut other)?;
        let second = link.cap(statement, &other).min(cap);
        let same = if link.anchored && other.names.is_empty() {
            // Nothing was known of it but who has it: it is what the statement names.
            proven && first.strong && first.core
        } else {
            let sure = link.evidence == Evidence::Verified && second == Evidence::Verified;
            proven && link.strong && link.core && sure
        };
        self.others.push((other.id, same));
        if best(&other) >= best(&self.base) {
            self.base.length = self.base.length.or(other.length);
        }
        if self.base.title.is_empty() {
            self.base.title = other.title;
        }
        for known in other.names {
            let evidence = known.evidence.min(second);
            match self.base.names.iter_mut().find(|mine| mine.name == known.name) {
                Some(mine) => mine.evidence = mine.evidence.max(evidence),
                None => self.base.names.push(Known { evidence, ..known }),
            }
        }
        Ok(())
    }

    /// Lets what is less well known yield where two contents that are to be one contradict each other.
    fn settle(&mut self, statement: &Statement, other: &mut Content) -> Result<(), Refusal> {
        let names: Vec<Name> = self.base.names.iter().map(|known| known.name).collect();
        let clash = Clash::of(other, &names, self.base.length);
        let proven = statement.evidence == Evidence::Verified;
        let differ = |alarm| Refusal {
            text: "it makes one of two contents that are known to differ".to_owned(),
            alarm,
        };
        if clash.length.is_some() || (!clash.names.is_empty() && !proven) {
            return Err(differ(false));
        }
        for (theirs, ours) in clash.names {
            let evidence = |content: &Content, name: &Name| {
                content.known(name).map_or(Evidence::Hint, |known| known.evidence)
            };
            let (one, two) = (evidence(&self.base, &ours), evidence(other, &theirs));
            if one == Evidence::Verified && two == Evidence::Verified {
                return Err(differ(true));
            }
            let (loser, name) =
                if one < two { (&mut self.base, ours) } else { (&mut *other, theirs) };
            loser.names.retain(|known| known.name != name);
            self.dropped.push(name);
        }
        Ok(())
    }

    /// Adds what the statement says.
    fn add(&mut self, statement: &Statement, cap: Evidence, now: SystemTime) {
        let before = best(&self.base);
        let better = self.base.names.is_empty() || cap > before;
        // A length, and a title, are as well known as the best that came with them.
        if better || (cap == before && self.base.length.is_none()) {
            self.base.length = statement.length;
        }
        if self.base.title.is_empty() || (better && !statement.title.is_empty()) {
            self.base.title.clone_from(&statement.title);
        }
        for name in &statement.names {
            let stated_by = Arc::clone(&statement.stated_by);
            let new = Known { name: *name, evidence: cap, stated_by, since: now };
            match self.base.names.iter_mut().find(|known| known.name == *name) {
                Some(known) if known.evidence >= cap => {}
                Some(known) => *known = new,
                None => self.base.names.push(new),
            }
        }
    }

    /// Makes room for what is well known: hints go first, the oldest before.
    fn bound(&mut self, statement: &Statement) -> Result<(), Refusal> {
        let over = self.base.names.len().saturating_sub(MAX_CONTENT_NAMES);
        if over == 0 {
            return Ok(());
        }
        let top = best(&self.base);
        let is_new = |known: &Known| {
            let old = self.old.as_ref();
            statement.names.contains(&known.name)
                && old.is_none_or(|it| it.known(&known.name).is_none())
        };
        let mut weakest: Vec<_> = self.base.names.iter().filter(|k| k.evidence < top).collect();
        weakest.sort_by_key(|known| (known.evidence, Reverse(is_new(known)), known.since));
        // Of what is equally known, the oldest names of descriptions go: who has these finds them by their own names.
        let described = |known: &&Known| {
            let of_bytes = known.name.scheme().is_of_bytes();
            !of_bytes && known.evidence == top && top == statement.evidence && !is_new(known)
        };
        if top > Evidence::Hint {
            weakest.extend(self.base.names.iter().filter(described));
        }
        weakest.truncate(over);
        if weakest.len() < over || weakest.iter().all(|known| is_new(known)) {
            let text = format!("the content would have more than {MAX_CONTENT_NAMES} names");
            return Err(Refusal::plain(text));
        }
        let gone: Vec<Name> = weakest.iter().map(|known| known.name).collect();
        self.base.names.retain(|known| !gone.contains(&known.name));
        Ok(())
    }
}

impl Link {
    /// How well what the statement says is known to be of the content.
    fn cap(&self, statement: &Statement, content: &Content) -> Evidence {
        if self.anchored || content.names.is_empty() {
            return statement.evidence;
        }
        let cap =
            if self.core { statement.evidence } else { statement.evidence.min(self.evidence) };
        // Hashes that can be forged do not prove that what was hashed here and there is the same.
        let elsewhere = |known: &Known| {
            known.evidence == Evidence::Verified && !statement.names.contains(&known.name)
        };
        if !self.strong && content.names.iter().any(elsewhere) {
            cap.min(Evidence::Attested)
        } else {
            cap
        }
    }
}

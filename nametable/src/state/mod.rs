//! What statements about names come to: which contents they are of, what they contradict, and what yields.
//!
//! The evidence of a name in a content says how well it is known that the name belongs to the others there. When two
//! statements cannot both be true, what is less well known yields; between equals the first one stands.

mod clash;
mod draft;
mod merge;

use std::{sync::Arc, time::SystemTime};

use p2pbridge_proto::{ContentId, Evidence, Name, Scheme};

use crate::{Binding, Content, EMPTY_CONTENT, MAX_CONTENT_NAMES, MAX_TITLE, Statement, digest};

pub(crate) use clash::excludes;
pub(crate) use draft::Draft;

/// What became of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The content that it is of; absent when it was refused.
    pub content: Option<ContentId>,
    /// What became of it.
    pub what: What,
}

/// What became of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The content was not known before.
    Created,
    /// More is known of a content.
    Extended,
    /// It said nothing new.
    Known,
    /// It was not taken; why.
    Refused(String),
}

impl Outcome {
    fn refused(why: impl Into<String>) -> Self {
        Self { content: None, what: What::Refused(why.into()) }
    }
}

/// Something that has become known of names.
#[derive(Debug, Clone, PartialEq)]
pub struct NameEvent {
    /// What happened.
    pub kind: NameEventKind,
    /// What is known of the content now; absent when it is gone, or there is none.
    pub content: Option<Content>,
    /// The names that it is about.
    pub names: Vec<Name>,
    /// The event in words.
    pub text: String,
    /// When.
    pub at: SystemTime,
}

/// A kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NameEventKind {
    /// Names were bound, or are better known than before.
    Bound,
    /// Names of a content are verified that were not.
    Proved,
    /// Names that somebody had stated have proved false, and are forgotten.
    Disproved,
    /// Two verified statements differ: an alarm.
    Conflict,
    /// A name was taken back.
    Unbound,
}

/// What can be said against a statement by itself.
fn check(statement: &Statement) -> Result<(), String> {
    let (count, letters) = (statement.names.len(), statement.title.chars().count());
    if count == 0 || count > MAX_CONTENT_NAMES {
        return Err(format!("it has {count} names; it takes 1 to {MAX_CONTENT_NAMES}"));
    }
    if letters > MAX_TITLE {
        return Err(format!("its title has {letters} letters; it takes at most {MAX_TITLE}"));
    }
    if statement.title.chars().any(char::is_control) {
        return Err("its title has control characters".to_owned());
    }
    for scheme in statement.names.iter().map(Name::scheme) {
        let Some(most @ 2..) = digest::variants(scheme, statement.length) else { continue };
        let count = statement.names.iter().filter(|name| name.scheme() == scheme).count();
        if count > most {
            return Err(format!("it has {count} {scheme} names; a content has {most} at most"));
        }
    }
    for (at, one) in statement.names.iter().enumerate() {
        for other in statement.names.iter().skip(at + 1) {
            if one != other && clash::excludes(one, other, statement.length) {
                return Err(format!("{one} and {other} cannot be of the same bytes"));
            }
        }
    }
    Ok(())
}

/// What a binding says of each of its contents, so well known: the digests of its files, and, when it is of one file, its
/// own names. A digest that somebody has only stated is no better known when all bytes match the description: as verified
/// it says those that are the description's own.
pub(crate) fn statements_of(binding: &Binding, evidence: Evidence) -> Vec<Statement> {
    let is_v2 = binding.names.iter().any(|name| name.scheme() == Scheme::Btmh);
    let says = |digest: &Name| {
        evidence < Evidence::Verified || (is_v2 && digest.scheme() == Scheme::PiecesRoot)
    };
    let stated_by: Arc<str> = binding.stated_by.as_str().into();
    let filled: Vec<_> = binding.files.iter().filter(|f| f.content != EMPTY_CONTENT).collect();
    let own: &[Name] = if filled.len() == 1 { &binding.names } else { &[] };
    let of_file = |file: &&crate::FileEntry| {
        let digest = file.digest.filter(says).filter(|digest| !own.contains(digest));
        let names: Vec<Name> = own.iter().copied().chain(digest).collect();
        let title = file.path.rsplit('/').next().unwrap_or_default();
        (!names.is_empty()).then(|| Statement {
            content: Some(file.content),
            names,
            length: Some(file.length),
            title: title.chars().filter(|c| !c.is_control()).take(MAX_TITLE).collect(),
            evidence,
            stated_by: Arc::clone(&stated_by),
        })
    };
    filled.iter().filter_map(of_file).collect()
}

/// The best evidence of any of a content's names.
fn best(content: &Content) -> Evidence {
    content.names.iter().map(|known| known.evidence).max().unwrap_or(Evidence::Hint)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

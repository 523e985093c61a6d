//! Links of files: descriptions of one line, of the protocols that have such.

use std::path::Path;

use p2pbridge_adapters::{AboutFile, Descriptor, Links, registry};
use p2pbridge_nametable::{
    MAX_TITLE,
    digest::{Digests, RULES, Rule, Rules},
};
use p2pbridge_proto::v1;

use super::super::table::plain;

/// A link of a file on a disk.
pub(super) struct Link {
    /// Whose it is.
    pub(super) protocol: &'static Descriptor,
    pub(super) text: String,
    /// What it says.
    pub(super) said: AboutFile,
    /// Whether it tells hashes that do not follow from the names.
    pub(super) tells_chunks: bool,
}

/// The links of a file, as far as the names that they need were computed, with the hashes of its chunks.
pub(super) fn links_of(path: &Path, digests: &Digests) -> Vec<Link> {
    let title = path.file_name().map(|name| plain(&name.to_string_lossy()));
    let title = title.unwrap_or_default();
    with_links().filter_map(|(protocol, links)| link_of(protocol, links, &title, digests)).collect()
}

fn link_of(
    protocol: &'static Descriptor,
    links: &Links,
    title: &str,
    digests: &Digests,
) -> Option<Link> {
    let word = rule_of(links)?.word;
    let name = digests.names.iter().find(|it| it.rule == word)?.name;
    let others = digests.names.iter().map(|it| it.name).filter(|it| it.scheme() != name.scheme());
    let bare = AboutFile {
        names: [name].into_iter().chain(others).collect(),
        title: title.to_owned(),
        length: digests.length,
        chunks: Vec::new(),
    };
    let whole = AboutFile { chunks: digests.chunks_of(links.scheme).to_vec(), ..bare.clone() };
    let compose = |about| String::from_utf8(protocol.compose?(about)?).ok();
    let text = compose(&whole)?;
    let said = (links.read)(&text).ok()?;
    let tells_chunks = compose(&bare).is_none_or(|bare| bare != text);
    Some(Link { protocol, text, said, tells_chunks })
}

/// The words of the rules without which no file has a link, when all of them are missing.
pub(super) fn missing(rules: Rules) -> Option<Vec<&'static str>> {
    let words: Vec<_> =
        with_links().filter_map(|(_, links)| rule_of(links)).map(|rule| rule.word).collect();
    words.iter().all(|word| !rules.contains(word)).then_some(words)
}

/// What a text says of a file, if it looks like a link.
pub(super) fn said_by(text: &str) -> Option<Result<AboutFile, String>> {
    let (_, links) = registry::linked(text)?;
    Some((links.read)(text).map_err(|error| error.to_string()))
}

/// The same as a statement.
pub(super) fn statement_of(said: &AboutFile) -> v1::Statement {
    v1::Statement {
        names: said.names.iter().map(|name| (*name).into()).collect(),
        length: Some(said.length),
        title: title_of(&said.title),
        ..Default::default()
    }
}

/// A title as statements take it.
pub(super) fn title_of(text: &str) -> String {
    plain(text).chars().take(MAX_TITLE).collect()
}

/// The rule that is meant where only a scheme is said: the first of it.
fn rule_of(links: &Links) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.schemes.contains(&links.scheme))
}

fn with_links() -> impl Iterator<Item = (&'static Descriptor, &'static Links)> {
    registry::PROTOCOLS.iter().filter_map(|it| Some((*it, it.links.as_ref()?)))
}

#[cfg(test)]
mod tests {
    use p2pbridge_nametable::digest::Computed;
    use p2pbridge_proto::{Name, Scheme};

    use super::*;

    /// What is computed of 19,456,000 zeros, in parts.
    fn zeros(rules: &[(&'static str, &str)], parts: usize) -> Digests {
        let part =
            Name::from_digest_text(Scheme::Ed2k, "d7def262a127cd79096a108e7a9fc138").unwrap();
        let names = rules.iter().map(|(rule, urn)| Computed {
            rule,
            name: urn.parse().unwrap(),
            text: (*urn).to_owned(),
        });
        let parts = vec![*part.digest().first_chunk().unwrap(); parts];
        Digests { length: 19_456_000, names: names.collect(), pieces: None, parts }
    }

    #[test]
    fn a_link_has_what_was_computed_and_is_read_as_what_it_says() {
        let red = "urn:ed2k:114b21c63a74b6ca922291a11177dd5c";
        let names = [
            ("sha1", "urn:sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ"),
            ("ed2k", red),
            ("ed2k-blue", "urn:ed2k:194ee9e4fa79b2ee9f8829284c466051"),
            ("aich", "urn:aich:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ"),
        ];
        let path = Path::new("/tmp/a b\n");
        let whole = links_of(path, &zeros(&names, 2)).remove(0);
        assert!(whole.tells_chunks && whole.text.contains("|p=d7def262"), "{}", whole.text);
        assert!(whole.text.contains("|a%20b%EF%BF%BD|19456000|114b21c6"), "{}", whole.text);
        let said: Vec<_> = whole.said.names.iter().map(ToString::to_string).collect();
        assert_eq!((said[0].as_str(), said.len()), (red, 2), "no name but those in the link");
        assert_eq!(said_by(&whole.text).unwrap().unwrap(), whole.said);
        let statement = statement_of(&whole.said);
        assert_eq!((statement.length, statement.title.as_str()), (Some(19_456_000), "a b\u{FFFD}"));
        for parts in [0, 1, 4] {
            let bare = links_of(path, &zeros(&names, parts)).remove(0);
            assert!(!bare.tells_chunks && !bare.text.contains("|p="), "{}", bare.text);
        }
        assert!(links_of(path, &zeros(&names[2..], 2)).is_empty(), "not of the other variant");
        assert!(links_of(Path::new("/"), &zeros(&names, 2)).is_empty(), "not without a title");
    }

    #[test]
    fn links_need_their_rule() {
        assert_eq!(missing(Rules::all()), None);
        assert_eq!(missing(Rules::parse("ed2k-blue").unwrap()), Some(vec!["ed2k"]));
        assert!(
            said_by("urn:btih:77").is_none() && said_by("ed2k://|server|a|1|/").unwrap().is_err()
        );
    }
}

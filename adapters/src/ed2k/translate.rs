//! Native messages ⇄ unified ones. Pure. What is lost on the way is in the README beside this file.

mod query;

pub use self::query::{expression_of_query, query_of_expression};

use std::{net::SocketAddr, time::Duration};

use p2pbridge_proto::{
    Announce, Find, Name, Peer, PeerEvent, PeerId, PeerList, Scheme, SearchHit, SearchResult,
};

use super::wire::{
    ClientId, Hash, Tag,
    server::{Crypt, FileRecord, FoundSources, Holder, SearchAnswer, Source, Wanted, file_tag},
};

/// The most bytes of a file's name that are taken.
pub const MAX_TITLE: usize = 255;

/// An offered file as an announce of the client that offers it. Of an incomplete file it is not told how much is there:
/// one byte is lacking.
#[must_use]
pub fn announce_of_offer(
    file: &FileRecord,
    user: &Hash,
    endpoint: SocketAddr,
    event: PeerEvent,
) -> Announce {
    let id = PeerId::try_from(&user[..]).unwrap_or(PeerId::NONE);
    let peer = Peer { id, endpoint };
    Announce {
        event,
        left: match file.holder {
            Holder::Complete => Some(0),
            Holder::Incomplete => Some(1),
            Holder::Client { .. } => None,
        },
        num_want: Some(0),
        title: title(file.name().unwrap_or_default()),
        length: file.size(),
        ..Announce::new(peer, vec![Name::ed2k(file.hash)])
    }
}

/// An announce as an offer; `None` when it has no eD2k hash or no length.
#[must_use]
pub fn offer_of_announce(announce: &Announce) -> Option<FileRecord> {
    let holder = match announce.left {
        Some(0) => Holder::Complete,
        Some(_) => Holder::Incomplete,
        None => Holder::NOBODY,
    };
    let hash = ed2k(&announce.names)?;
    Some(FileRecord::new(hash, holder, &announce.title, announce.length?))
}

/// A question for sources in the unified form.
#[must_use]
pub fn find_of_wanted(wanted: &Wanted) -> Find {
    Find { length: wanted.size, ..Find::new(vec![Name::ed2k(wanted.hash)]) }
}

/// A question for sources in its native form; `None` when it has no eD2k hash.
#[must_use]
pub fn wanted_of_find(find: &Find) -> Option<Wanted> {
    Some(Wanted { hash: ed2k(&find.names)?, size: find.length })
}

/// Found sources in the unified form: a client with a low id as the endpoint that has its number.
#[must_use]
pub fn peers_of_sources(found: &FoundSources) -> PeerList {
    let peer = |source: &Source| {
        let id = source.crypt.user.and_then(|user| PeerId::try_from(&user[..]).ok());
        Peer { id: id.unwrap_or(PeerId::NONE), endpoint: source.id.endpoint(source.port) }
    };
    PeerList {
        peers: found.sources.iter().filter(|source| source.port != 0).map(peer).collect(),
        interval: Duration::ZERO,
        ..PeerList::default()
    }
}

/// A peer as a source; `None` when it has no address of IPv4, or no port. How it obfuscates is not told by a peer.
#[must_use]
pub fn source_of_peer(peer: &Peer) -> Option<Source> {
    let (id, port) = (ClientId::of(peer.endpoint)?, peer.endpoint.port());
    (port != 0 && id != ClientId::Low(0)).then_some(Source { id, port, crypt: Crypt::default() })
}

/// What a search found in the unified form. Files without a name or a size are left out.
#[must_use]
pub fn result_of_answer(answer: &SearchAnswer) -> SearchResult {
    SearchResult {
        hits: answer.files.iter().filter_map(hit_of_file).collect(),
        truncated: answer.more.unwrap_or(false),
    }
}

/// A file that a search found in the unified form.
#[must_use]
pub fn hit_of_file(file: &FileRecord) -> Option<SearchHit> {
    let count = |number: Option<u64>| u32::try_from(number.unwrap_or(0)).unwrap_or(u32::MAX);
    Some(SearchHit {
        names: vec![Name::ed2k(file.hash)],
        title: title(file.name().filter(|name| !name.is_empty())?),
        length: file.size()?,
        sources: count(file.sources()),
        complete_sources: count(file.complete_sources()),
    })
}

/// A hit in its native form; `None` when it has no eD2k hash.
#[must_use]
pub fn file_of_hit(hit: &SearchHit) -> Option<FileRecord> {
    let mut file = FileRecord::new(ed2k(&hit.names)?, Holder::NOBODY, &hit.title, hit.length);
    file.tags.push(Tag::number(file_tag::SOURCES, hit.sources));
    file.tags.push(Tag::number(file_tag::COMPLETE_SOURCES, hit.complete_sources));
    Some(file)
}

/// What a search found in its native form.
#[must_use]
pub fn answer_of_result(result: &SearchResult) -> SearchAnswer {
    let files = result.hits.iter().filter_map(file_of_hit).collect();
    SearchAnswer { files, more: Some(result.truncated) }
}

/// The eD2k hash among names.
fn ed2k(names: &[Name]) -> Option<Hash> {
    let name = names.iter().find(|name| name.scheme() == Scheme::Ed2k)?;
    name.digest().try_into().ok()
}

/// A file's name without control characters, cut at [`MAX_TITLE`].
fn title(name: &str) -> String {
    let mut title = String::new();
    for letter in name.chars().filter(|letter| !letter.is_control()) {
        if title.len() + letter.len_utf8() > MAX_TITLE {
            break;
        }
        title.push(letter);
    }
    title
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_and_announces_say_the_same() {
        let at: SocketAddr = "198.51.100.3:4662".parse().unwrap();
        for (holder, left) in
            [(Holder::Complete, Some(0)), (Holder::Incomplete, Some(1)), (Holder::NOBODY, None)]
        {
            let file = FileRecord::new([7; 16], holder, "film.avi", 5 << 32);
            let announce = announce_of_offer(&file, &[9; 16], at, PeerEvent::Started);
            assert_eq!((announce.left, announce.length), (left, Some(5 << 32)));
            assert_eq!((announce.peer.id.as_bytes(), announce.peer.endpoint), (&[9; 16][..], at));
            assert_eq!(offer_of_announce(&announce), Some(file));
        }
        let long = FileRecord::new([7; 16], Holder::Complete, &"ü\n".repeat(400), 1);
        let announce = announce_of_offer(&long, &[9; 16], at, PeerEvent::Started);
        assert_eq!(announce.title, "ü".repeat(127));
        let other = Announce::new(Peer::at(at), vec![Name::btih([1; 20])]);
        assert_eq!(offer_of_announce(&other), None);
    }

    #[test]
    fn a_low_id_comes_back_as_it_was() {
        let source = |id| Source { id, port: 4662, crypt: Crypt::default() };
        let ids = [ClientId::Low(77), ClientId::from_number(0x0364_33C6)];
        let found = FoundSources { hash: [1; 16], sources: ids.map(source).to_vec() };
        let list = peers_of_sources(&found);
        let back: Vec<_> = list.peers.iter().filter_map(source_of_peer).collect();
        assert_eq!(back, found.sources);
        for nobody in ["0.0.0.0:1", "1.2.3.4:0", "[2001:db8::1]:1"] {
            assert_eq!(source_of_peer(&Peer::at(nobody.parse().unwrap())), None);
        }
    }

    #[test]
    fn hits_and_files_say_the_same() {
        let hit = SearchHit {
            names: vec![Name::btih([2; 20]), Name::ed2k([1; 16])],
            title: "film.avi".to_owned(),
            length: 6 << 32,
            sources: 3,
            complete_sources: 2,
        };
        let file = file_of_hit(&hit).unwrap();
        let back = hit_of_file(&file).unwrap();
        assert_eq!(back, SearchHit { names: vec![Name::ed2k([1; 16])], ..hit });
        let nameless = FileRecord { tags: Vec::new(), ..file };
        assert_eq!(hit_of_file(&nameless), None);
    }
}

//! What a message loses when it becomes a unified one and then again one of its kind, and why. The README has the same
//! table; a test compares them.

use crate::message::Loss;

const OWN_ADDRESS: &str = "the address is the one that is seen, in every direction";
const CONVERSATION: &str = "belongs to one conversation: each side of the bridge has its own";
const HTTP: &[&str] = &[
    "http-announce-request",
    "http-announce-answer",
    "http-scrape-request",
    "http-scrape-answer",
    "http-failure",
];
const ANSWERS: &[&str] = &["http-announce-answer", "http-scrape-answer", "http-failure"];

/// The rows; the first that covers a field holds.
pub(super) const LOSSES: &[Loss] = &[
    Loss {
        kinds: &[
            "udp-announce-request",
            "udp-announce-answer",
            "udp-empty-answer",
            "udp-scrape-request",
            "udp-scrape-answer",
            "udp-error",
        ],
        field: "transaction",
        why: CONVERSATION,
    },
    Loss {
        kinds: &["udp-announce-request", "udp-scrape-request"],
        field: "connection",
        why: CONVERSATION,
    },
    Loss { kinds: &["udp-announce-request"], field: "address", why: OWN_ADDRESS },
    Loss {
        kinds: &["udp-announce-request"],
        field: "url data",
        why: "path and query of one tracker's URL, often a passkey: it is not for another tracker",
    },
    Loss {
        kinds: &["udp-announce-request"],
        field: "options",
        why: "BEP 41 has no other option than URL data",
    },
    Loss {
        kinds: &["udp-empty-answer"],
        field: "action",
        why: "opentracker's way to say that it does not serve the info-hash; told as an error, with a text",
    },
    Loss { kinds: &["udp-empty-answer"], field: "message", why: "the text of that error" },
    Loss {
        kinds: &["udp-announce-answer", "http-announce-answer", "http-scrape-answer"],
        field: "passed over",
        why: "peers without a port, or with a host name instead of an address, and info-hashes that are none",
    },
    Loss {
        kinds: &["udp-announce-answer", "http-announce-answer"],
        field: "interval as sent",
        why: "taken within 1 s and 24 h; 30 min when it is none",
    },
    Loss {
        kinds: &["http-announce-answer"],
        field: "min interval as sent",
        why: "taken within 1 s and 24 h; 30 min when it is none",
    },
    Loss {
        kinds: &["udp-announce-answer"],
        field: "peer",
        why: "a packet has peers of one family only, and no more than fit into it",
    },
    Loss {
        kinds: &["udp-announce-answer"],
        field: "left over",
        why: "bytes behind the last whole entry say nothing",
    },
    Loss {
        kinds: &["http-announce-request", "http-scrape-request"],
        field: "path",
        why: "belongs to one tracker, and may have a passkey in it: it is not for another tracker",
    },
    Loss { kinds: HTTP, field: "header *", why: CONVERSATION },
    Loss { kinds: ANSWERS, field: "status", why: "HTTP's own; BitTorrent refuses with status 200" },
    Loss {
        kinds: &["http-announce-request"],
        field: "compact",
        why: "the form of the answer is agreed with each tracker; the bridge always asks for the compact one",
    },
    Loss {
        kinds: &["http-announce-request"],
        field: "no_peer_id",
        why: "the form of the answer is agreed with each tracker; the bridge never asks for ids of peers",
    },
    Loss { kinds: &["http-announce-request"], field: "parameter ip", why: OWN_ADDRESS },
    Loss { kinds: &["http-announce-request"], field: "parameter ipv4", why: OWN_ADDRESS },
    Loss { kinds: &["http-announce-request"], field: "parameter ipv6", why: OWN_ADDRESS },
    Loss {
        kinds: &["http-announce-request"],
        field: "parameter key",
        why: "only keys of up to 8 hex digits have room in the unified message, as in BEP 15",
    },
    Loss {
        kinds: &["http-announce-request", "http-scrape-request"],
        field: "parameter *",
        why: "of no BEP that the bridge speaks, or about connections between peers (encryption, redundancy, corrupt bytes)",
    },
    Loss {
        kinds: &["http-announce-answer"],
        field: "external ip",
        why: "the asker's address as this tracker sees it (BEP 24): the bridge tells each asker what it sees itself",
    },
    Loss {
        kinds: &["http-scrape-answer"],
        field: "downloaders *",
        why: "BEP 21's part of the incomplete ones; the unified message counts those that lack something",
    },
    Loss {
        kinds: &["http-scrape-answer"],
        field: "downloaded *",
        why: "when it was not said, 0 is: BEP 48 has it in every entry",
    },
    Loss {
        kinds: &["http-failure"],
        field: "retry in",
        why: "a minute is said of a refusal for want of room that says no time: clients back off by it",
    },
    Loss { kinds: ANSWERS, field: "key *", why: "of no BEP that the bridge speaks" },
];

/// The messages of which a row holds, as the README has them.
#[cfg(test)]
pub(super) fn of(kinds: &[&str]) -> String {
    let whole: &[(&[&str], &str)] = &[(HTTP, "HTTP"), (ANSWERS, "HTTP answers")];
    match whole.iter().find(|(all, _)| *all == kinds) {
        Some((_, name)) => (*name).to_owned(),
        None => kinds.join(", "),
    }
}

//! What a message loses when it becomes a unified one and then again one of its kind, and why. The README has the same
//! table; a test compares them.

use crate::message::Loss;

const OFFERS: &[&str] = &["tcp-offer-request"];
const SEARCHES: &[&str] = &["tcp-search-request", "udp-search-request"];
const SOURCES: &[&str] =
    &["tcp-sources-answer", "tcp-sources-obfuscated-answer", "udp-sources-answer"];
const RESULTS: &[&str] = &["tcp-found-answer", "udp-found-answer"];
const FILES: &[&str] = &["tcp-offer-request", "tcp-found-answer", "udp-found-answer"];
const QUESTIONS: &[&str] = &[
    "tcp-get-sources-request",
    "tcp-get-sources-obfuscated-request",
    "udp-get-sources-request",
    "udp-get-sources-old-request",
];
const TCP: &[&str] = &[
    "tcp-offer-request",
    "tcp-search-request",
    "tcp-get-sources-request",
    "tcp-get-sources-obfuscated-request",
    "tcp-sources-answer",
    "tcp-sources-obfuscated-answer",
    "tcp-found-answer",
];

/// The rows; the first that covers a field holds.
pub(super) const LOSSES: &[Loss] = &[
    Loss {
        kinds: TCP,
        field: "compressed",
        why: "whether a message is compressed is agreed with each side",
    },
    Loss {
        kinds: OFFERS,
        field: "holder",
        why: "an address that a client claims is not taken: it is the one that is seen",
    },
    Loss {
        kinds: SEARCHES,
        field: "search",
        why: "conditions of tags that the bridge knows nothing of (bitrate, codec, …) are left out, `>` is `>=`, `<` is `<=`, and one way of nesting is written",
    },
    Loss {
        kinds: &["udp-search-request"],
        field: "form",
        why: "the bridge asks in the newest form",
    },
    Loss {
        kinds: &["udp-search-request"],
        field: "tag search flags",
        why: "the bridge always reads new tags and sizes of 64 bits",
    },
    Loss {
        kinds: &["udp-search-request"],
        field: "tag *",
        why: "other options of a search are not known",
    },
    Loss {
        kinds: SOURCES,
        field: "file",
        why: "an answer belongs to one question, which says the file",
    },
    Loss {
        kinds: SOURCES,
        field: "source",
        why: "sources without a port are none; how a source obfuscates is agreed with the source, and its user hash stays",
    },
    Loss {
        kinds: RESULTS,
        field: "holder",
        why: "one source of a result is asked for with the others, when the file is wanted",
    },
    Loss { kinds: RESULTS, field: "file", why: "results without a name or a size are of no use" },
    Loss {
        kinds: &["tcp-found-answer"],
        field: "more",
        why: "it is always said whether there are more",
    },
    Loss {
        kinds: RESULTS,
        field: "tag sources",
        why: "it is always said how many sources there are",
    },
    Loss {
        kinds: RESULTS,
        field: "tag complete sources",
        why: "it is always said how many complete sources there are",
    },
    Loss {
        kinds: FILES,
        field: "tag name",
        why: "without control characters, and at most 255 bytes of it",
    },
    Loss { kinds: FILES, field: "tag size*", why: "the size is written as two numbers of 32 bits" },
    Loss {
        kinds: FILES,
        field: "tag *",
        why: "the type follows from the name, and nothing else is known of what is inside a file",
    },
    Loss {
        kinds: QUESTIONS,
        field: "size",
        why: "over UDP there is a question with the size, and an old one without it",
    },
];

/// The messages of which a row holds, as the README has them.
#[cfg(test)]
pub(super) fn of(kinds: &[&str]) -> String {
    let whole: &[(&[&str], &str)] = &[
        (TCP, "all over TCP"),
        (SEARCHES, "searches"),
        (SOURCES, "sources"),
        (RESULTS, "results"),
        (FILES, "offers and results"),
        (QUESTIONS, "questions for sources"),
    ];
    match whole.iter().find(|(all, _)| *all == kinds) {
        Some((_, name)) => (*name).to_owned(),
        None => kinds.join(", "),
    }
}

//! What a native message says, field by field, for people and for comparing.

use data_encoding::HEXLOWER;
use p2pbridge_proto::Peer;

use super::native::Native;
use crate::{
    bittorrent::wire::{
        http::{AnnounceRequest, AnnounceResponse, Failure, RetryIn, SwarmCounts, event_word},
        udp::{UdpRequest, UdpResponse},
    },
    message::Field,
};

/// The fields, in the order of the wire.
pub(super) fn fields(native: &Native) -> Vec<Field> {
    let mut out = Fields(Vec::new());
    match native {
        Native::UdpRequest(UdpRequest::Connect { transaction }) => {
            out.head("connect", *transaction);
        }
        Native::UdpRequest(UdpRequest::Announce {
            connection,
            transaction,
            announce,
            url_data,
        }) => {
            out.add("connection", format!("{connection:#018x}"));
            out.head("announce", *transaction);
            out.announce(announce);
            if !url_data.is_empty() {
                out.0.push(Field::bytes("url data", url_data.as_bytes()));
            }
        }
        Native::UdpRequest(UdpRequest::Scrape { connection, transaction, info_hashes }) => {
            out.add("connection", format!("{connection:#018x}"));
            out.head("scrape", *transaction);
            out.hashes(info_hashes);
        }
        Native::UdpEmpty { transaction } => out.head("announce", *transaction),
        Native::UdpResponse(UdpResponse::Connect { transaction, connection }) => {
            out.head("connect", *transaction);
            out.add("connection", format!("{connection:#018x}"));
        }
        Native::UdpResponse(UdpResponse::Announce { transaction, response }) => {
            out.head("announce", *transaction);
            out.answer(response);
        }
        Native::UdpResponse(UdpResponse::Scrape { transaction, swarms }) => {
            out.head("scrape", *transaction);
            for (at, swarm) in swarms.iter().enumerate() {
                out.swarm(&at.to_string(), swarm);
            }
        }
        Native::UdpResponse(UdpResponse::Error { transaction, message }) => {
            out.head("error", *transaction);
            out.add("message", message);
        }
        Native::HttpAnnounce(announce) => {
            out.announce(announce);
            out.add("compact", u8::from(announce.compact));
            out.add("no_peer_id", u8::from(announce.no_peer_id));
        }
        Native::HttpScrape(scrape) => out.hashes(&scrape.info_hashes),
        Native::HttpPeers(response) => out.answer(response),
        Native::HttpSwarms(swarms) => {
            for (hash, swarm) in swarms {
                out.swarm(&HEXLOWER.encode(hash), swarm);
            }
        }
        Native::HttpFailure(failure) => out.failure(failure),
    }
    out.0
}

struct Fields(Vec<Field>);

impl Fields {
    fn add(&mut self, name: impl Into<String>, value: impl ToString) {
        self.0.push(Field::new(name, value));
    }

    fn maybe(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    fn head(&mut self, action: &str, transaction: u32) {
        self.add("action", action);
        self.add("transaction", format!("{transaction:#010x}"));
    }

    fn hashes(&mut self, hashes: &[[u8; 20]]) {
        hashes.iter().for_each(|hash| self.add("info_hash", HEXLOWER.encode(hash)));
    }

    fn announce(&mut self, announce: &AnnounceRequest) {
        self.hashes(&[announce.info_hash]);
        self.0.push(Field::bytes("peer_id", &announce.peer_id));
        self.add("port", announce.port);
        self.add("uploaded", announce.uploaded);
        self.add("downloaded", announce.downloaded);
        self.maybe("left", announce.left);
        self.maybe("event", event_word(announce.event));
        self.maybe("numwant", announce.num_want);
        self.maybe("key", announce.key.map(|key| format!("{key:08x}")));
        if let Some(id) = &announce.tracker_id {
            self.0.push(Field::bytes("trackerid", id));
        }
    }

    fn answer(&mut self, answer: &AnnounceResponse) {
        self.add("interval", answer.interval.as_secs());
        self.maybe("min interval", answer.min_interval.map(|interval| interval.as_secs()));
        self.maybe("complete", answer.seeders);
        self.maybe("incomplete", answer.leechers);
        if let Some(id) = &answer.tracker_id {
            self.0.push(Field::bytes("tracker id", id));
        }
        self.maybe("warning message", answer.warning.as_ref());
        self.maybe("external ip", answer.external_ip);
        answer.peers.iter().for_each(|peer| self.peer(peer));
    }

    fn peer(&mut self, peer: &Peer) {
        let id = peer.id.as_bytes();
        let id = if id.is_empty() { String::new() } else { format!(" {}", id.escape_ascii()) };
        self.add("peer", format!("{}{id}", peer.endpoint));
    }

    /// `which` is the info-hash, or the place among those asked for.
    fn swarm(&mut self, which: &str, swarm: &SwarmCounts) {
        self.add(format!("complete {which}"), swarm.complete);
        self.add(format!("incomplete {which}"), swarm.incomplete);
        self.maybe(&format!("downloaded {which}"), swarm.downloaded);
        self.maybe(&format!("downloaders {which}"), swarm.downloaders);
    }

    fn failure(&mut self, failure: &Failure) {
        self.add("failure reason", &failure.reason);
        let retry_in = failure.retry_in.map(|retry| match retry {
            RetryIn::Never => "never".to_owned(),
            RetryIn::After(time) => format!("{} min", time.as_secs().div_ceil(60)),
        });
        self.maybe("retry in", retry_in);
    }
}

//! A content with names that other programs gave it, and a bridge to tell them to.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use data_encoding::BASE64;
use p2pbridge_proto::{Name, Scheme, v1};
use serde_json::{Value, json};

use crate::{Bridge, Config, Json, Make, Scene, Torrent, fill, free_port, grpcio, oracle_names};

/// The full name of the service.
pub const NAME_SERVICE: &str = "p2pbridge.v1.NameService";

/// A file of which other programs have told the names, and a torrent of it.
#[derive(Debug)]
pub struct Film {
    /// Where it is; it is called `film.bin`.
    pub path: PathBuf,
    /// Its torrent.
    pub torrent: Torrent,
    /// The names that the bytes alone make, as each system writes them.
    pub texts: Vec<String>,
    /// The same.
    pub names: Vec<Name>,
}

impl Film {
    /// Two parts of eD2k and a bit; 79 pieces.
    pub const LENGTH: u64 = 2 * 9_728_000 + 1_000_000;
    /// Bytes of a piece.
    pub const PIECE: u64 = 1 << 18;

    /// Makes the file and its hybrid torrent, and asks the programs. Nothing answers at its tracker.
    pub async fn new(scene: &Scene) -> Self {
        Self::in_torrent(scene, Make::Hybrid(18), "http://127.0.0.1:9/announce").await
    }

    /// The same with such a torrent, and this announce URL in it.
    pub async fn in_torrent(scene: &Scene, make: Make, url: &str) -> Self {
        let path = scene.dir("films").join("film.bin");
        fill(&path, Self::LENGTH, 91);
        let found = oracle_names(scene, std::slice::from_ref(&path)).await.remove(0);
        let out = scene.file("film.torrent");
        let torrent = Torrent::make(make, &path, "film.bin", url, &out).await;
        let texts: Vec<String> = found.into_values().collect();
        let names = texts.iter().map(|text| text.parse().expect("a name")).collect();
        Self { path, torrent, texts, names }
    }

    /// Its names, with those of the torrent.
    #[must_use]
    pub fn all(&self) -> BTreeSet<Name> {
        let urns = self.torrent.urns();
        let torrent = urns.iter().map(|urn| urn.parse::<Name>().expect("a URN"));
        self.names.iter().copied().chain(torrent).collect()
    }

    /// The first of its names of a scheme.
    #[must_use]
    pub fn name(&self, scheme: Scheme) -> Name {
        self.all().into_iter().find(|name| name.scheme() == scheme).expect("a name of the scheme")
    }

    /// Has the names and the torrent published, as somebody who has computed them.
    pub async fn publish(&self, bridge: &Bridge) -> Json {
        let description = BASE64.encode(&fs::read(&self.torrent.path).expect("the torrent"));
        let request = json!({
            "contents": [{"names": name_rows(&self.names), "length": Self::LENGTH, "title": "film.bin"}],
            "description": {"description": description, "label": "film.torrent", "overlay": "a"},
            "source": "/films/film.bin",
        });
        let answers = grpcio(bridge, json!([[NAME_SERVICE, "Publish", request]])).await;
        answers.into_iter().next().expect("an answer")
    }
}

/// A bridge whose trackers do not answer.
pub async fn bridge_alone(scene: &Scene) -> Bridge {
    let url = |port: u16| [format!("http://127.0.0.1:{port}/announce")];
    Bridge::start(scene, &Config::a_to_b(scene, &url(free_port()), &url(free_port()))).await
}

/// A name as protobuf's JSON has it.
#[must_use]
pub fn name_row(name: &Name) -> Value {
    let scheme = v1::Scheme::from(name.scheme()).as_str_name();
    json!({"scheme": scheme, "digest": BASE64.encode(name.digest())})
}

/// Names as protobuf's JSON has them.
pub fn name_rows<'a>(names: impl IntoIterator<Item = &'a Name>) -> Vec<Value> {
    names.into_iter().map(name_row).collect()
}

/// The names of a content in an answer.
#[must_use]
pub fn names_in(content: &Json) -> BTreeSet<Name> {
    let known = content.get("names").items();
    known.iter().map(|known| known.get("urn").text().parse().expect("a URN")).collect()
}

/// What is exported: of each content its length, title and names, in this order.
pub async fn exported(bridge: &Bridge) -> Vec<(u64, String, BTreeSet<Name>)> {
    let answers = grpcio(bridge, json!([[NAME_SERVICE, "ExportNames", {}]])).await;
    let parts = answers.iter().flat_map(Json::items);
    let contents = parts.flat_map(|part| part.get("contents").items());
    let mut rows: Vec<_> = contents
        .map(|row| (row.get("length").number(), row.get("title").text(), names_in(&row)))
        .collect();
    rows.sort();
    rows
}

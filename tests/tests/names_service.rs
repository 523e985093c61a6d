//! The service of names in every scheme, asked by clients that nobody here wrote.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;

use data_encoding::BASE64;
use p2pbridge_proto::{Name, Scheme, v1};
use p2pbridge_tests::{
    Film, Json, NAME_SERVICE as NAMES, Scene, bridge_alone, buf_curl, grpcio, name_row, name_rows,
    names_in, within,
};
use serde_json::{Value, json};

const LENGTH: u64 = Film::LENGTH;

/// Names one after the other, as Translate takes and gives them.
fn pack<'a>(names: impl IntoIterator<Item = &'a Name>) -> String {
    let one = |name: &Name| [&[name.scheme() as u8], name.digest()].concat();
    BASE64.encode(&names.into_iter().flat_map(one).collect::<Vec<_>>())
}

fn unpack(text: &str) -> Vec<Name> {
    let bytes = BASE64.decode(text.as_bytes()).expect("base64");
    let (mut rest, mut names) = (bytes.as_slice(), Vec::new());
    while let Some((number, digest)) = rest.split_first() {
        let scheme = Scheme::from_number(*number).expect("a scheme");
        let (digest, behind) = digest.split_at(scheme.digest_len());
        names.push(Name::new(scheme, digest).expect("a name"));
        rest = behind;
    }
    names
}

/// Bytes of a chunk, as each system cuts this film.
fn unit(scheme: Scheme) -> u64 {
    match scheme {
        // A torrent says it of itself.
        Scheme::Btih | Scheme::Btmh => 0,
        Scheme::Ed2k => 9_728_000,
        Scheme::Aich => 184_320,
        Scheme::Tth | Scheme::Ppspp => 1_024,
        Scheme::PiecesRoot | Scheme::Ppspp16k => 16_384,
        Scheme::CidDagPb => 262_144,
        Scheme::Sha1 | Scheme::Sha256 | Scheme::CidRaw => LENGTH,
    }
}

#[tokio::test]
async fn each_name_gives_all_others_with_who_when_and_how() {
    let scene = Scene::new();
    let (bridge, film) = (bridge_alone(&scene).await, Film::new(&scene).await);
    let published = film.publish(&bridge).await;
    assert_eq!(published.get("contents").items().len(), 1, "{published:?}");
    assert_eq!(published.get("binding").get("evidence").text(), "EVIDENCE_VERIFIED");

    let asked: Vec<String> = film.texts.iter().cloned().chain(film.torrent.urns()).collect();
    let requests: Vec<Value> =
        asked.iter().map(|text| json!([NAMES, "Resolve", {"name": text}])).collect();
    let answers = grpcio(&bridge, json!(requests)).await;
    for (asked, answer) in asked.iter().zip(answers) {
        let contents = answer.get("contents").items();
        assert_eq!(contents.len(), 1, "{asked}: {answer:?}");
        let content = &contents[0];
        assert_eq!(names_in(content), film.all(), "{asked}");
        assert_eq!(content.get("length").number(), LENGTH, "{asked}");
        assert_eq!(content.get("title").text(), "film.bin", "{asked}");
        for known in content.get("names").items() {
            let name: Name = known.get("urn").text().parse().expect("a URN");
            assert_eq!(known.get("name").0, name_row(&name), "{known:?}");
            assert_eq!(known.get("evidence").text(), "EVIDENCE_VERIFIED", "{known:?}");
            assert!(known.get("stated_by").text().contains("/films/film.bin"), "{known:?}");
            assert!(known.get("state_time").text().starts_with("20"), "{known:?}");
            assert_eq!(known.get("unit").number(), unit(name.scheme()), "{known:?}");
        }
        // The torrent is there too: as itself, or as what has the same bytes.
        let (own, others) = (answer.get("binding"), answer.get("equivalents").items());
        let is_torrent = asked.starts_with("urn:bt");
        assert_eq!((own.0.is_null(), others.len()), (!is_torrent, usize::from(!is_torrent)));
        let binding = if is_torrent { own } else { others[0].clone() };
        let urns: Vec<String> = binding.get("urns").items().iter().map(Json::text).collect();
        assert_eq!(urns, film.torrent.urns(), "{asked}");
    }

    let (hash, sha256) = (film.name(Scheme::Ed2k), film.name(Scheme::Sha256));
    let others = [
        json!({"name": hash.hex(), "scheme": "SCHEME_ED2K"}),
        json!({"name": hash.hex().to_uppercase(), "scheme": "SCHEME_ED2K"}),
        json!({"name": sha256.ni()}),
        json!({"name": format!("magnet:?xt={hash}&dn=x")}),
    ];
    for request in others {
        let answer = buf_curl(&bridge, &format!("{NAMES}/Resolve"), request.clone()).await;
        assert_eq!(names_in(&answer.get("contents").items()[0]), film.all(), "{request}");
    }
}

#[tokio::test]
async fn translation_gives_each_scheme_that_is_asked_for() {
    let scene = Scene::new();
    let (bridge, film) = (bridge_alone(&scene).await, Film::new(&scene).await);
    film.publish(&bridge).await;
    let unknown: Name = "urn:tree:tiger:LWPNACQDBZRYXW3VHJVCJ64QBZNGHOHHHZWCLNQ".parse().unwrap();
    let all: Vec<Name> = film.all().into_iter().collect();
    let asked: Vec<Name> = all.iter().copied().chain([unknown]).collect();
    let requests: Vec<Value> = Scheme::ALL
        .into_iter()
        .map(|to| {
            let to = v1::Scheme::from(to).as_str_name();
            json!([NAMES, "Translate", {"names": pack(&asked), "to": [to], "at_least": "EVIDENCE_VERIFIED"}])
        })
        .chain([json!([NAMES, "Translate", {"names": pack(&asked)}])])
        .collect();
    let mut answers = grpcio(&bridge, json!(requests)).await;
    let whole = answers.pop().expect("the last");
    for (to, answer) in Scheme::ALL.into_iter().zip(answers) {
        let of_scheme: Vec<Name> = all.iter().copied().filter(|name| name.scheme() == to).collect();
        let counts: Vec<u64> = answer.get("counts").items().iter().map(Json::number).collect();
        let mut given = unpack(&answer.get("names").text()).into_iter();
        assert_eq!(counts.len(), asked.len());
        for (name, count) in asked.iter().zip(&counts) {
            let got: BTreeSet<Name> = given.by_ref().take(*count as usize).collect();
            let others: BTreeSet<Name> = of_scheme
                .iter()
                .copied()
                .filter(|other| *name != unknown && other != name)
                .collect();
            assert_eq!(&got - &BTreeSet::from([*name]), others, "{name} to {to}");
        }
        assert!(given.next().is_none());
    }
    let lengths: Vec<u64> = whole.get("lengths").items().iter().map(Json::number).collect();
    let mut wanted = vec![LENGTH; all.len()];
    wanted.push(0);
    assert_eq!(lengths, wanted);
    assert_eq!(whole.get("evidence").items().len(), unpack(&whole.get("names").text()).len());
}

/// Chunk ranges and availability between systems that cut the same bytes in their own ways.
#[tokio::test]
async fn chunks_of_one_system_are_chunks_of_another() {
    let scene = Scene::new();
    let (bridge, film) = (bridge_alone(&scene).await, Film::new(&scene).await);
    film.publish(&bridge).await;
    let urn = |scheme: Scheme| {
        let name = film.all().into_iter().find(|name| name.scheme() == scheme);
        name.expect("a name of the scheme").to_string()
    };
    let cut = |scheme: Scheme| if unit(scheme) == 0 { Film::PIECE } else { unit(scheme) };
    let schemes: Vec<Scheme> =
        film.all().iter().map(Name::scheme).collect::<BTreeSet<_>>().into_iter().collect();
    let (mut requests, mut wanted) = (Vec::new(), Vec::new());
    for from in &schemes {
        for to in &schemes {
            let (a, b) = (cut(*from), cut(*to));
            let count = LENGTH.div_ceil(a);
            let chunk = count / 2;
            let (begin, end) = (chunk * a, ((chunk + 1) * a).min(LENGTH));
            let chunks = json!({"first": chunk, "count": 1});
            requests.push(
                json!([NAMES, "MapChunks", {"from": urn(*from), "to": urn(*to), "chunks": chunks}]),
            );
            // Everything but the first chunk is there.
            let mut have = vec![0_u8; count.div_ceil(8) as usize];
            (1..count).for_each(|chunk| have[chunk as usize / 8] |= 0x80 >> (chunk % 8));
            requests.push(json!([NAMES, "MapChunks", {"from": urn(*from), "to": urn(*to), "availability": BASE64.encode(&have)}]));
            let others = LENGTH.div_ceil(b);
            let whole = (0..others).filter(|other| other * b >= a && count > 1).count();
            wanted.push((*from, *to, (begin, end), (begin / b, (end - 1) / b), whole));
        }
    }
    let answers = grpcio(&bridge, json!(requests)).await;
    for ((from, to, (begin, end), (first, last), whole), answers) in
        wanted.into_iter().zip(answers.chunks(2))
    {
        let ranges = answers[0].get("ranges").items();
        assert_eq!(ranges.len(), 1, "{from} to {to}: {:?}", answers[0]);
        for side in ["from", "to"] {
            let side = ranges[0].get(side);
            assert_eq!(
                (side.get("offset").number(), side.get("length").number()),
                (begin, end - begin),
                "{from} to {to}"
            );
        }
        let chunks = ranges[0].get("to_chunks");
        assert_eq!(
            (chunks.get("first").number(), chunks.get("count").number()),
            (first, last - first + 1),
            "{from} to {to}"
        );
        let bits = BASE64.decode(answers[1].get("availability").text().as_bytes()).expect("base64");
        let set: u32 = bits.iter().map(|byte| byte.count_ones()).sum();
        assert_eq!(set as usize, whole, "{from} to {to}");
    }
}

/// A watcher hears of what is bound while it listens.
#[tokio::test]
async fn a_watcher_is_told() {
    let scene = Scene::new();
    let bridge = bridge_alone(&scene).await;
    let watching = grpcio(&bridge, json!([[NAMES, "WatchNames", {}, 1]]));
    // It is not known when it listens: there is something new until it has heard.
    let stating = async {
        for number in 0_u32.. {
            let digest = [&number.to_be_bytes()[..], &[5; 16]].concat();
            let sha1 = Name::new(Scheme::Sha1, &digest).unwrap();
            let request = json!([{"rows": [{"names": name_rows(&[sha1])}], "source": "watched"}]);
            grpcio(&bridge, json!([[NAMES, "ImportNames", request]])).await;
        }
    };
    let heard = tokio::select! {
        heard = within("an event", 60, watching) => heard,
        () = stating => unreachable!("it goes on"),
    };
    let event = heard[0].items().remove(0);
    assert_eq!(event.get("event").text(), "NAME_EVENT_BOUND", "{event:?}");
    let urn = event.get("urns").items()[0].text();
    assert!(urn.starts_with("urn:sha1:"), "{event:?}");
    assert_eq!(event.get("content").get("names").items()[0].get("urn").text(), urn);
    assert_ne!(event.get("text").text(), "");
    assert_ne!(event.get("time").text(), "");
}

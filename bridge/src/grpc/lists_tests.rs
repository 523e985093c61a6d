//! Names of bytes over gRPC: lists in and out, translation, publication, and watching.

use std::time::Duration;

use futures::{StreamExt, stream};
use p2pbridge_proto::{Name, Scheme, v1};
use tonic::Code;

use super::{Bench, reason};
use crate::names::tests::{item, torrent};

fn name(scheme: Scheme, byte: u8) -> Name {
    Name::new(scheme, &vec![byte; scheme.digest_len()]).unwrap()
}

fn row(names: &[Name], length: Option<u64>) -> v1::Statement {
    let names = names.iter().map(|name| (*name).into()).collect();
    v1::Statement { names, length, title: "a".to_owned(), ..Default::default() }
}

fn packed(names: &[Name]) -> Vec<u8> {
    names.iter().flat_map(|name| [&[name.scheme() as u8], name.digest()].concat()).collect()
}

#[tokio::test]
async fn lists_come_in_and_go_out_and_watchers_hear_of_them() {
    let bench = Bench::start(Duration::from_secs(1)).await;
    let mut names = bench.names();
    let mut events = names.watch_names(v1::WatchNamesRequest {}).await.unwrap().into_inner();
    let (ed2k, tth, sha1) = (Scheme::Ed2k, Scheme::Tth, Scheme::Sha1);
    let request =
        |rows: Vec<v1::Statement>| v1::ImportNamesRequest { rows, source: "list.csv".to_owned() };
    let requests = stream::iter([
        request(vec![row(&[name(ed2k, 1), name(tth, 1)], Some(9)), row(&[name(ed2k, 2)], None)]),
        request(vec![
            row(&[name(ed2k, 1), name(sha1, 1)], Some(9)),
            row(&[name(ed2k, 1)], Some(8)),
            row(&[name(tth, 1)], None),
        ]),
    ]);
    let answers = names.import_names(requests).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(Result::unwrap).collect().await;
    assert_eq!((answers[0].created, answers[0].refused.len()), (2, 0));
    assert_eq!((answers[1].extended, answers[1].known), (1, 1));
    assert_eq!(answers[1].refused[0].row, 1);
    assert!(answers[1].refused[0].reason.ends_with("of 9 bytes, not 8"), "{answers:?}");

    let first = events.next().await.unwrap().unwrap();
    assert_eq!((first.event(), first.urns.len()), (v1::NameEvent::Bound, 2));
    assert!(first.content.unwrap().names[0].stated_by.ends_with("list list.csv"));

    let export = |schemes: &[Scheme]| v1::ExportNamesRequest {
        schemes: schemes.iter().map(|scheme| v1::Scheme::from(*scheme).into()).collect(),
        ..Default::default()
    };
    let mut rows = 0;
    let mut pages = names.export_names(export(&[])).await.unwrap().into_inner();
    while let Some(page) = pages.next().await {
        rows += page.unwrap().contents.len();
    }
    assert_eq!(rows, 2);
    let mut pages = names.export_names(export(&[sha1])).await.unwrap().into_inner();
    let page = pages.next().await.unwrap().unwrap();
    assert_eq!((page.contents.len(), page.contents[0].names.len()), (1, 1));

    let request = v1::ResolveRequest { name: name(tth, 1).to_string(), ..Default::default() };
    let found = names.resolve(request).await.unwrap().into_inner();
    assert!(found.binding.is_none());
    let content = &found.contents[0];
    assert_eq!((content.length, content.names.len()), (Some(9), 3));
    assert!(
        content.names.iter().all(|known| {
            known.evidence() == v1::Evidence::Attested && known.state_time.is_some()
        })
    );
    let unbind = v1::UnbindRequest { name: name(tth, 1).to_string(), ..Default::default() };
    let left = names.unbind(unbind.clone()).await.unwrap().into_inner().content.unwrap();
    assert_eq!(left.names.len(), 2);
    assert_eq!(names.unbind(unbind).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn names_are_translated_in_columns() {
    let bench = Bench::start(Duration::from_secs(1)).await;
    let mut names = bench.names();
    let (ed2k, sha256) = (name(Scheme::Ed2k, 1), name(Scheme::Sha256, 1));
    let request = v1::PublishRequest {
        contents: vec![row(&[ed2k, sha256], Some(100_000))],
        description: Some(item(torrent("one", 16384, &[7; 100_000], &[]), "one", "")),
        source: "file".to_owned(),
        without_overlay: true,
    };
    let published = names.publish(request).await.unwrap().into_inner();
    assert_eq!(published.binding.unwrap().evidence(), v1::Evidence::Verified);

    let asked = [ed2k, name(Scheme::Ed2k, 9), sha256];
    let request = v1::TranslateRequest {
        names: packed(&asked),
        to: vec![v1::Scheme::Sha256.into(), v1::Scheme::Btih.into()],
        at_least: v1::Evidence::Verified.into(),
    };
    let answer = names.translate(request.clone()).await.unwrap().into_inner();
    assert_eq!(answer.counts, [2, 0, 2]);
    assert_eq!(answer.lengths, [100_000, 0, 100_000]);
    assert_eq!(answer.evidence, [v1::Evidence::Verified as i32; 4]);
    // A v1 info-hash and a SHA-256, twice.
    assert_eq!(answer.names.len(), 2 * (21 + 33));
    let digest = |at: usize| answer.names[at..].starts_with(&packed(&[sha256]));
    assert!(digest(0) || digest(21), "{:?}", answer.names);
    let mut cut = request.clone();
    cut.names.pop();
    let status = names.translate(cut).await.unwrap_err();
    assert!(status.message().contains("name 2: a sha256 digest has 32 bytes, and 31 follow"));
    let unknown = v1::TranslateRequest { names: vec![77], ..request };
    assert_eq!(reason(&names.translate(unknown).await.unwrap_err()), "BAD_NAME");

    let map = v1::MapChunksRequest {
        from: ed2k.to_string(),
        to: sha256.to_string(),
        what: Some(v1::map_chunks_request::What::Chunks(v1::ChunkRange { first: 0, count: 1 })),
    };
    let mapped = names.map_chunks(map).await.unwrap().into_inner().ranges;
    assert_eq!(mapped[0].from.unwrap().length, 100_000);
    let items = vec![v1::BindItem {
        content: Some(row(&[name(Scheme::Btih, 5), name(Scheme::Ed2k, 5)], None)),
        ..Default::default()
    }];
    let bound = names.bind(v1::BindRequest { items, ..Default::default() }).await.unwrap();
    assert_eq!(bound.into_inner().contents[0].names.len(), 2);
    let blind = v1::MapChunksRequest {
        from: name(Scheme::Btih, 5).to_string(),
        to: ed2k.to_string(),
        what: None,
    };
    assert_eq!(reason(&names.map_chunks(blind).await.unwrap_err()), "NO_LAYOUT");
}

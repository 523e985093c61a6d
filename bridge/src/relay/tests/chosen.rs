//! Peers that want some files of a folder alone.

use super::{learn::setup, *};

const UNIT: u64 = 1 << 16;

/// Files of these lengths, one behind the other, or each from a chunk of its own on.
fn folder(name: u8, lengths: &[u64], padded: bool) -> (Arc<Description>, Bytes) {
    let (mut files, mut bytes) = (Vec::new(), Vec::new());
    for (number, length) in lengths.iter().enumerate() {
        if padded {
            bytes.resize(bytes.len().next_multiple_of(UNIT as usize), 0);
        }
        let (offset, path) = (bytes.len() as u64, format!("file{number}"));
        files.push(FileSpan { path, offset, length: *length, digest: None });
        bytes.extend((0..*length).map(|at| (at * 31 + at / 251 + number as u64) as u8));
    }
    let bytes = Bytes::from(bytes);
    let whole = description(name, UNIT, &bytes);
    (Arc::new(Description { files, ..(*whole).clone() }), bytes)
}

/// Downloads one file as a client does that is interested only in what is of it, and gives when it has it.
async fn choose(house: &House, of: &Description, file: usize) -> Vec<u8> {
    let reader = house.reader(&of.names[0]).await;
    let span = &of.files[file];
    let wanted = (span.offset / UNIT) as u32..(span.offset + span.length).div_ceil(UNIT) as u32;
    let peer = reader.attend(SocketAddr::from(([127, 0, 0, 1], 1)));
    peer.wants(false);
    peer.holds(Bits::none(of.length.div_ceil(UNIT) as u32));
    let (mut seen, mut open, mut got) = (0, wanted.clone().collect::<Vec<_>>(), Vec::new());
    got.resize(of.length as usize, 0);
    let mut news = reader.availability().watch();
    while !open.is_empty() {
        for chunk in reader.availability().since(seen) {
            seen += 1;
            if !open.contains(&chunk) {
                continue;
            }
            peer.wants(true);
            let start = u64::from(chunk) * UNIT;
            let end = (start + UNIT).min(of.length);
            let bytes = reader.read(start..end).await.unwrap();
            got[start as usize..end as usize].copy_from_slice(&bytes);
            peer.served(start..end);
            peer.gained(chunk);
            open.retain(|other| *other != chunk);
        }
        peer.wants(false);
        if !open.is_empty() {
            timeout(PATIENCE, news.changed()).await.expect("the file comes").unwrap();
        }
    }
    got.drain(..span.offset as usize);
    got.truncate(span.length as usize);
    got
}

#[tokio::test(start_paused = true)]
async fn one_file_of_a_folder_comes_though_others_before_it_are_not_wanted() {
    for padded in [false, true] {
        let lengths = [4_000_000, 10_000_000, 77, 5_000_000, 3_000_000];
        let ((a, content), (b, _)) = (folder(1, &lengths, padded), folder(2, &lengths, padded));
        let dir = tempfile::tempdir().unwrap();
        let setup = setup(&a, &b, vec![(1, content.clone())], dir.path(), table());
        let house = house(setup).await;
        for file in [3, 0] {
            let span = &b.files[file];
            let whole = &content[span.offset as usize..][..span.length as usize];
            assert!(choose(&house, &b, file).await == whole);
        }
        // Of the others no more than what is read ahead, and a chunk of each.
        let most = 5_000_000 + 4_000_000 + (6 << 20);
        let sent = house.sent.load(Ordering::SeqCst);
        assert!(sent < most, "{sent}");
        house.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_slow_to_want_anything_gets_all_of_it() {
    let content = bytes_of(9_000_000);
    let (a, b) = (description(1, UNIT, &content), description(2, UNIT, &content));
    let dir = tempfile::tempdir().unwrap();
    let setup = setup(&a, &b, vec![(1, content.clone())], dir.path(), table());
    let house = house(setup).await;
    let reader = house.reader(&b.names[0]).await;
    let peer = reader.attend(SocketAddr::from(([127, 0, 0, 1], 2)));
    peer.wants(false);
    peer.holds(Bits::none(138));
    until(|| house.sent.load(Ordering::SeqCst) >= 1 << 20).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(house.sent.load(Ordering::SeqCst) < 3 << 20, "it wants nothing");
    peer.wants(true);
    let (mut seen, mut news) = (0, reader.availability().watch());
    while seen < 138 {
        for chunk in reader.availability().since(seen) {
            seen += 1;
            peer.gained(chunk);
        }
        if seen < 138 {
            timeout(PATIENCE, news.changed()).await.expect("all of it comes").unwrap();
        }
    }
    drop(peer);
    house.end().await;
}

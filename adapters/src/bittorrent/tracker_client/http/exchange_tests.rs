use std::{io::Write as _, time::Duration};

use flate2::{Compression, write::GzEncoder};
use tokio::{io::duplex, time::timeout};

use super::*;

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// What comes of an answer that arrives in pieces of so many bytes, and the bytes that were left unread.
async fn read(answer: &[u8], piece: usize) -> Result<Reply, ExchangeError> {
    let (mut ours, mut theirs) = duplex(1 << 10);
    let answer = answer.to_vec();
    let tracker = tokio::spawn(async move {
        let mut request = [0; 5];
        theirs.read_exact(&mut request).await.unwrap();
        assert_eq!(&request, b"GET /");
        for piece in answer.chunks(piece) {
            if theirs.write_all(piece).await.is_err() {
                return;
            }
        }
    });
    let mut buffer = Vec::new();
    let reply = timeout(Duration::from_secs(20), exchange(&mut ours, &mut buffer, b"GET /"));
    let reply = reply.await.expect("it ends");
    drop(ours);
    tracker.await.unwrap();
    assert!(buffer.capacity() < 3 * MAX_BODY, "{}", buffer.capacity());
    reply
}

#[tokio::test]
async fn bodies_of_every_framing_are_read_whole_however_they_arrive() {
    let gzip = packed(b"de");
    let packed_head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        gzip.len()
    );
    let cases: [(&[u8], &[u8], bool); 9] = [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nde", b"de", true),
        (b"HTTP/1.1 200\r\ncontent-length:2\r\nConnection: close\r\n\r\nde", b"de", false),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nde", b"de", false),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nde", b"de", true),
        (b"HTTP/1.1 200 OK\r\n\r\nde", b"de", false),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\nd\r\n01\r\ne\r\n0\r\nX: y\r\n\r\n",
            b"de",
            true,
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nde", b"de", true),
        (b"HTTP/1.1 204 Nothing\r\n\r\n", b"", true),
        // What is behind the answer is not taken for the next one.
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\ndexx", b"de", false),
    ];
    for (answer, body, reusable) in cases {
        for piece in [1, 7, 1000] {
            let reply = read(answer, piece).await.unwrap();
            assert_eq!(reply.body, body);
            // In pieces, what is behind may not have come yet.
            assert!(reply.reusable == reusable || (piece < 1000 && answer.ends_with(b"xx")));
        }
    }
    let reply = read(&[packed_head.as_bytes(), &gzip].concat(), 9).await.unwrap();
    assert_eq!((reply.body.as_slice(), reply.reusable), (&b"de"[..], true));
    let reply =
        read(b"HTTP/1.1 503 X\r\nRetry-After: 9\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 99);
    let reply = reply.await.unwrap();
    assert_eq!((reply.status, reply.retry_after), (503, Some(9)));
    assert_eq!(reply.location.as_deref(), Some("/x"));
}

#[tokio::test]
async fn nonsense_is_named_and_bounded() {
    let long =
        |head: &str, body: &[u8], times: usize| [head.as_bytes(), &body.repeat(times)].concat();
    let bomb = packed(&vec![b'x'; 50 << 20]);
    let bomb_head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        bomb.len()
    );
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let cases = [
        (Vec::new(), "without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-".to_vec(), "ends too early"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nde".to_vec(), "ends too early"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nde".to_vec(), "is no number"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nde".to_vec(),
            "two lengths",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\nde".to_vec(),
            "more than 1048576 bytes",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\nde".to_vec(), "packed as `br`"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".to_vec(),
            "packed as `gzip, chunked`",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nde".to_vec(),
            "unpacked",
        ),
        ([bomb_head.as_bytes(), &bomb].concat(), "more than 1048576 bytes"),
        (b"SSH-2.0-x\r\n".to_vec(), "no HTTP answer"),
        (
            long("HTTP/1.1 200 OK\r\n", b"X-Y: zzzzzzzzzzzzzzzzzzzzzzzzzzzzzz\r\n", 65),
            "no HTTP answer",
        ),
        (long("HTTP/1.1 200 OK\r\nX: ", b"zzzzzzzz", 10_000), "longer than 16 KiB"),
        (long("", b"HTTP/1.1 100 Continue\r\n\r\n", 99), "again and again"),
        (long("HTTP/1.1 200 OK\r\n\r\n", b"<html>  ", 1_000_000), "more than 1048576 bytes"),
        (long(chunked, b"8\r\n<html>  \r\n", 200_000), "more than 1048576 bytes"),
        (long(chunked, b"FFFFFFFFFFFFFFF\r\nd", 1), "more than 1048576 bytes"),
        (long(chunked, b"1\r\nde\r\n", 1), "longer than it says"),
        (long(chunked, b"x\r\nde\r\n", 1), "no size"),
        (long(&format!("{chunked}0\r\n"), b"X: zzzzzzzzzzzzzzz\r\n", 10_000), "endless"),
        (long(&format!("{chunked}0\r\n"), b"zzzzzzzz", 10_000), "endless"),
        (long(chunked, b"1\r\nd", 1), "ends too early"),
    ];
    for (answer, says) in cases {
        let error = read(&answer, 1000).await.unwrap_err();
        assert!(error.to_string().contains(says), "{:?}: {error}", answer.get(..60));
        let io = matches!(error, ExchangeError::Silent | ExchangeError::Cut);
        assert_eq!(error.is_nonsense(), !io);
    }
}

proptest::proptest! {
    #[test]
    fn whatever_comes_is_an_answer_or_an_error(
        parts in proptest::collection::vec(proptest::sample::select(vec![
            "HTTP/1.1 200 OK\r\n", "HTTP/1.0 204 X\r\n", "HTTP/1.1 100 C\r\n", "\r\n", "Content-Length: 3\r\n",
            "Content-Length: 18446744073709551616\r\n", "Transfer-Encoding: chunked\r\n", "Content-Encoding: gzip\r\n",
            "3\r\n", "0\r\n", "FFFFFFFFFFFFFFFF\r\n", "abc", "\u{1f}\u{8b}", "Retry-After: -1\r\n", "Location: \r\n", "\n",
        ]), 0..12),
        piece in 1usize..40,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        if let Ok(reply) = runtime.block_on(read(parts.concat().as_bytes(), piece)) {
            proptest::prop_assert!(reply.status >= 200 && reply.body.len() <= MAX_BODY);
        }
    }
}

//! Answers as HTTP.

use super::head::HeadError;

/// To a connection for which there is no room.
pub(super) const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\n\
    Retry-After: 60\r\nConnection: close\r\nContent-Length: 29\r\n\r\ntoo many connections to here\n";

/// What becomes of the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// It stays, as HTTP/1.1 has it.
    Stays,
    /// It stays, which HTTP/1.0 must be told.
    StaysAsAsked,
    /// It ends.
    Ends,
}

impl After {
    fn field(self) -> &'static [u8] {
        match self {
            Self::Stays => b"",
            Self::StaysAsAsked => b"Connection: keep-alive\r\n",
            Self::Ends => b"Connection: close\r\n",
        }
    }
}

/// Writes an answer of the tracker's: bencode, also when it is a refusal (BEP 3).
pub(super) fn bencode(out: &mut Vec<u8>, body: &[u8], after: After) {
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n");
    rest(out, body, after);
}

/// Writes an answer for a person, or for a program that speaks no tracker protocol.
pub(super) fn plain(out: &mut Vec<u8>, status: &str, text: &str, after: After) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_bytes());
    out.extend_from_slice(b"\r\nContent-Type: text/plain\r\n");
    rest(out, text.as_bytes(), after);
}

/// Writes what a broken request is told.
pub(super) fn head_error(out: &mut Vec<u8>, error: HeadError) {
    let (status, text) = match error {
        HeadError::Malformed => ("400 Bad Request", "this is no HTTP/1 request\n"),
        HeadError::TooLong => ("414 URI Too Long", "the address is too long\n"),
        HeadError::TooLarge => {
            ("431 Request Header Fields Too Large", "the header fields are too large\n")
        }
        HeadError::Method => {
            ("405 Method Not Allowed\r\nAllow: GET", "a tracker is asked by GET\n")
        }
        HeadError::Body => ("400 Bad Request", "a question to a tracker has no body\n"),
    };
    plain(out, status, text, After::Ends);
}

fn rest(out: &mut Vec<u8>, body: &[u8], after: After) {
    out.extend_from_slice(after.field());
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(itoa::Buffer::new().format(body.len()).as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

//! Sending one list: read on a thread of its own, a few requests ahead of their answers.

use std::io::{self, BufReader, Read};

use futures::stream;
use p2pbridge_nametable::exchange::{self, Format, Row};
use p2pbridge_proto::v1;
use tokio::sync::mpsc;

use super::{
    super::super::client::{CliError, Client},
    tally::Tally,
};

/// The most rows of a request, good and bad ones, and about how many bytes it has.
const ROWS: usize = 10_000;
const BYTES: usize = 4 << 20;
/// Requests that are on the way.
const AHEAD: usize = 3;

/// Rows that were read together.
#[derive(Default)]
struct Portion {
    rows: Vec<v1::Statement>,
    bytes: usize,
    sent: Sent,
}

/// What must be remembered of rows that are on the way.
#[derive(Default)]
struct Sent {
    /// The line of each.
    lines: Vec<u64>,
    /// Those between them that could not be read: line and reason.
    bad: Vec<(u64, String)>,
}

/// Sends a list, and takes down what becomes of its rows.
///
/// # Errors
/// When the bridge takes nothing more.
pub(super) async fn send(
    client: &Client,
    label: &str,
    (format, input): (Format, Box<dyn Read + Send>),
    evidence: v1::Evidence,
    tally: &mut Tally,
) -> Result<(), CliError> {
    let (requests, receiver) = mpsc::channel(1);
    let (sent, mut answers) = mpsc::channel(AHEAD);
    let source = label.rsplit('/').next().unwrap_or(label).to_owned();
    let reader = tokio::task::spawn_blocking(move || {
        let rows = exchange::read(format, BufReader::with_capacity(256 << 10, input));
        read(rows, &source, evidence, &requests, &sent)
    });
    let receiver = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|request| (request, receiver))
    });
    let stream = client.names().import_names(receiver).await;
    let mut stream = stream.map_err(|status| client.explain(&status))?.into_inner();
    while let Some(Sent { lines, bad }) = answers.recv().await {
        for (line, reason) in bad {
            tally.refuse(label, Some(line), reason);
        }
        if lines.is_empty() {
            continue;
        }
        let answer = stream.message().await.map_err(|status| client.explain(&status))?;
        let answer = answer.ok_or_else(|| CliError::Refused("the bridge hung up".into()))?;
        tally.answered(label, &lines, &answer);
    }
    // Nobody listens any more only when an error has ended this before.
    let ended = reader.await.map_err(|error| CliError::Output(io::Error::other(error)))?;
    ended.ok_or_else(|| CliError::Refused("the bridge hung up".into()))
}

/// Reads all rows into requests. `None` when nobody takes them any more.
fn read(
    rows: impl Iterator<Item = Result<Row, exchange::RowError>>,
    source: &str,
    evidence: v1::Evidence,
    requests: &mpsc::Sender<v1::ImportNamesRequest>,
    sent: &mpsc::Sender<Sent>,
) -> Option<()> {
    let mut portion = Portion::default();
    for row in rows {
        portion.take(row, evidence);
        if portion.is_full() {
            portion.send(source, requests, sent)?;
            portion = Portion::default();
        }
    }
    portion.send(source, requests, sent)
}

impl Portion {
    fn take(&mut self, row: Result<Row, exchange::RowError>, evidence: v1::Evidence) {
        match row {
            Ok(row) => {
                self.bytes += 16 + row.title.len() + row.names.len() * 40;
                self.sent.lines.push(row.line);
                self.rows.push(v1::Statement {
                    names: row.names.into_iter().map(Into::into).collect(),
                    length: row.length,
                    title: row.title,
                    evidence: row.evidence.map_or(evidence, Into::into).into(),
                });
            }
            Err(error) => {
                let ends = if error.ends() { "; nothing behind it was read" } else { "" };
                let place = error.column.map(|column| format!("column `{column}`: "));
                let place = place.unwrap_or_default();
                self.sent.bad.push((error.line, format!("{place}{}{ends}", error.what)));
            }
        }
    }

    fn is_full(&self) -> bool {
        self.rows.len() + self.sent.bad.len() >= ROWS || self.bytes >= BYTES
    }

    fn send(
        self,
        source: &str,
        requests: &mpsc::Sender<v1::ImportNamesRequest>,
        sent: &mpsc::Sender<Sent>,
    ) -> Option<()> {
        let rows = self.rows;
        sent.blocking_send(self.sent).ok()?;
        if rows.is_empty() {
            return Some(());
        }
        let request = v1::ImportNamesRequest { rows, source: source.to_owned() };
        requests.blocking_send(request).ok()
    }
}

#[cfg(test)]
mod tests {
    use p2pbridge_proto::{Evidence, Name};

    use super::*;

    #[test]
    fn requests_are_bounded_and_remember_their_lines() {
        let good = |line| Ok(Row { names: vec![Name::btih([7; 20])], line, ..Row::default() });
        let bad = exchange::read(Format::Magnets, &b"x"[..]).next().unwrap();
        let rows = (1..=ROWS as u64).map(good).chain([bad, good(9_000)]);
        let (requests, mut received) = mpsc::channel(9);
        let (sent, mut answers) = mpsc::channel(9);
        assert!(read(rows, "x", v1::Evidence::Hint, &requests, &sent).is_some());
        let (first, second) = (received.try_recv().unwrap(), received.try_recv().unwrap());
        assert_eq!((first.rows.len(), second.rows.len(), second.source.as_str()), (ROWS, 1, "x"));
        assert_eq!(first.rows[0].evidence(), v1::Evidence::Hint);
        let (first, second) = (answers.try_recv().unwrap(), answers.try_recv().unwrap());
        assert_eq!((first.lines.len(), first.lines[ROWS - 1]), (ROWS, ROWS as u64));
        assert_eq!((second.lines, second.bad.len(), second.bad[0].0), (vec![9_000], 1, 1));

        let mut portion = Portion::default();
        let long =
            Row { title: "x".repeat(BYTES), evidence: Some(Evidence::Attested), ..Row::default() };
        portion.take(Ok(long), v1::Evidence::Hint);
        assert!(portion.is_full());
        assert_eq!(portion.rows[0].evidence(), v1::Evidence::Attested);
        drop((received, answers));
        assert!(portion.send("x", &requests, &sent).is_none());
    }
}

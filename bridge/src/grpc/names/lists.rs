//! Names in bulk: lists in and out, translation at memory speed, and watching.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt as _, stream};
use p2pbridge_nametable::{Content, NameEvent, NameEventKind, NameTable, NameWatcher};
use p2pbridge_proto::{Evidence, Name, Scheme, v1};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::super::{blocking, fault};
use crate::names::{NameDesk, content_row};

/// A stream of answers.
pub(super) type Rows<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The most names of a translation.
const MOST_NAMES: usize = 100_000;
/// Bytes of names in an answer to a translation.
const MOST_TRANSLATED: usize = 48 << 20;
/// Contents in a message of an export.
const EXPORT_PAGE: usize = 1_000;
/// Events that are kept for a watcher who reads slowly.
const MOST_EVENTS: usize = 4_096;

/// Takes a list, request by request.
pub(super) fn import(
    desk: Arc<NameDesk>,
    requests: Streaming<v1::ImportNamesRequest>,
    caller: String,
    stop: CancellationToken,
) -> Rows<v1::ImportNamesResponse> {
    let requests = requests.take_until(stop.cancelled_owned());
    Box::pin(requests.then(move |request| {
        let (desk, caller) = (desk.clone(), caller.clone());
        async move {
            let request = request?;
            blocking(move || desk.import(&request, &caller)).await?.map_err(Status::from)
        }
    }))
}

/// Gives all contents that have names of these schemes.
pub(super) fn export(
    desk: Arc<NameDesk>,
    request: &v1::ExportNamesRequest,
) -> Result<Rows<v1::ExportNamesResponse>, Status> {
    let schemes = schemes(&request.schemes, "schemes")?;
    let least = evidence(request.at_least());
    let wanted = Arc::new(move |content: &mut Content| {
        content.names.retain(|known| {
            known.evidence >= least
                && (schemes.is_empty() || schemes.contains(&known.name.scheme()))
        });
        !content.names.is_empty()
    });
    let pages = stream::try_unfold(Some(0), move |cursor| {
        let (desk, wanted) = (desk.clone(), wanted.clone());
        async move {
            let Some(cursor) = cursor else { return Ok(None) };
            let (mut page, next) =
                blocking(move || desk.table().contents_page(cursor, EXPORT_PAGE)).await?;
            page.retain_mut(|content| wanted(content));
            let contents = page.iter().map(content_row).collect();
            Ok::<_, Status>(Some((v1::ExportNamesResponse { contents }, next)))
        }
    });
    let filled = |page: &Result<v1::ExportNamesResponse, Status>| {
        let filled = page.as_ref().map_or(true, |page| !page.contents.is_empty());
        std::future::ready(filled)
    };
    Ok(Box::pin(pages.filter(filled)))
}

/// Translates packed names.
pub(super) fn translate(
    table: &NameTable,
    request: &v1::TranslateRequest,
) -> Result<v1::TranslateResponse, Status> {
    let names = unpack(&request.names)?;
    let (to, least) = (schemes(&request.to, "to")?, evidence(request.at_least()));
    let mut answer = v1::TranslateResponse {
        counts: Vec::with_capacity(names.len()),
        lengths: Vec::with_capacity(names.len()),
        names: Vec::with_capacity(names.len() * 33),
        evidence: Vec::with_capacity(names.len()),
    };
    let mut full = false;
    table.translate(&names, &to, &mut |_, found| {
        full |= answer.names.len() > MOST_TRANSLATED;
        let mut count = 0;
        if full {
            return;
        }
        for (name, evidence) in found.names.iter().filter(|(_, evidence)| *evidence >= least) {
            count += 1;
            answer.names.push(name.scheme() as u8);
            answer.names.extend_from_slice(name.digest());
            answer.evidence.push(v1::Evidence::from(*evidence).into());
        }
        answer.counts.push(count);
        answer.lengths.push(found.length.unwrap_or_default());
    });
    if full {
        let text = "the answer would be too large: ask for fewer names, or say which schemes";
        return Err(fault::bad_field("TOO_MUCH", "names", text));
    }
    Ok(answer)
}

fn unpack(mut packed: &[u8]) -> Result<Vec<Name>, Status> {
    let mut names = Vec::with_capacity((packed.len() / 17).min(MOST_NAMES));
    while let Some((number, rest)) = packed.split_first() {
        let bad = |why: String| {
            fault::bad_field("BAD_NAME", "names", format!("name {}: {why}", names.len()))
        };
        let scheme = Scheme::from_number(*number);
        let scheme = scheme.ok_or_else(|| bad(format!("there is no scheme {number}")))?;
        let (digest, rest) = rest.split_at_checked(scheme.digest_len()).ok_or_else(|| {
            bad(format!(
                "a {scheme} digest has {} bytes, and {} follow",
                scheme.digest_len(),
                rest.len()
            ))
        })?;
        if names.len() == MOST_NAMES {
            return Err(fault::bad_field("TOO_MUCH", "names", format!("more than {MOST_NAMES}")));
        }
        names.push(Name::new(scheme, digest).map_err(|error| bad(error.to_string()))?);
        packed = rest;
    }
    Ok(names)
}

fn schemes(numbers: &[i32], field: &str) -> Result<Vec<Scheme>, Status> {
    let scheme = |number: &i32| {
        u8::try_from(*number).ok().and_then(Scheme::from_number).ok_or_else(|| {
            fault::bad_field("BAD_SCHEME", field, format!("there is no scheme {number}"))
        })
    };
    numbers.iter().map(scheme).collect()
}

/// The least evidence that is asked for.
fn evidence(evidence: v1::Evidence) -> Evidence {
    match evidence {
        v1::Evidence::Unspecified | v1::Evidence::Hint => Evidence::Hint,
        v1::Evidence::Attested => Evidence::Attested,
        v1::Evidence::Verified => Evidence::Verified,
    }
}

/// Tells all watchers what becomes known.
pub(super) struct Watchers {
    events: broadcast::Sender<Arc<NameEvent>>,
    stop: CancellationToken,
}

impl Watchers {
    /// Begins to listen to a table; streams end when `stop` is cancelled.
    pub(super) fn of(table: &NameTable, stop: CancellationToken) -> Self {
        let (events, _) = broadcast::channel(MOST_EVENTS);
        table.watch(Arc::new(Callers(events.clone())));
        Self { events, stop }
    }

    /// When the streams are to end.
    pub(super) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// One more watcher.
    pub(super) fn watch(&self) -> Rows<v1::WatchNamesResponse> {
        let state = (self.events.subscribe(), 0, self.stop.clone());
        Box::pin(stream::unfold(state, |(mut events, mut missed, stop)| async move {
            loop {
                let event = tokio::select! {
                    () = stop.cancelled() => return None,
                    event = events.recv() => event,
                };
                match event {
                    Ok(event) => {
                        let row = event_row(&event, missed);
                        return Some((Ok(row), (events, 0, stop)));
                    }
                    Err(RecvError::Lagged(count)) => missed += count,
                    Err(RecvError::Closed) => return None,
                }
            }
        }))
    }
}

/// All who have called to watch.
struct Callers(broadcast::Sender<Arc<NameEvent>>);

impl NameWatcher for Callers {
    fn hear(&self, event: &NameEvent) {
        if self.wants_all() {
            // Nobody may be left to hear it by now.
            let _ = self.0.send(Arc::new(event.clone()));
        }
    }

    fn wants_all(&self) -> bool {
        self.0.receiver_count() > 0
    }
}

fn event_row(event: &NameEvent, missed: u64) -> v1::WatchNamesResponse {
    let kind = match event.kind {
        NameEventKind::Bound => v1::NameEvent::Bound,
        NameEventKind::Proved => v1::NameEvent::Proved,
        NameEventKind::Disproved => v1::NameEvent::Disproved,
        NameEventKind::Conflict => v1::NameEvent::Conflict,
        NameEventKind::Unbound => v1::NameEvent::Unbound,
    };
    v1::WatchNamesResponse {
        event: kind.into(),
        content: event.content.as_ref().map(content_row),
        urns: event.names.iter().map(ToString::to_string).collect(),
        text: event.text.clone(),
        time: Some(event.at.into()),
        missed,
    }
}

//! Records ⇄ bytes, as private protobuf messages: fields may be added, and never change their meaning.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use p2pbridge_proto::{ContentId, Evidence, Name, OverlayId, Scheme};
use prost::Message;
use thiserror::Error;

use super::Record;
use crate::{Binding, EMPTY_CONTENT, FileEntry, Quarantined, Reason, binding::layout_of};

/// Why bytes are no record.
#[derive(Debug, Error)]
#[error("a record is damaged: {0}")]
pub(super) struct RecordError(String);

#[derive(Clone, PartialEq, Message)]
struct RawBinding {
    /// Scheme's number, and digest.
    #[prost(bytes = "vec", repeated, tag = "1")]
    names: Vec<Vec<u8>>,
    #[prost(uint64, tag = "2")]
    length: u64,
    #[prost(uint64, tag = "3")]
    unit: u64,
    #[prost(message, repeated, tag = "4")]
    files: Vec<RawFile>,
    #[prost(uint32, tag = "5")]
    evidence: u32,
    #[prost(string, repeated, tag = "6")]
    overlays: Vec<String>,
    #[prost(string, tag = "7")]
    title: String,
    #[prost(string, tag = "8")]
    stated_by: String,
    #[prost(message, required, tag = "9")]
    created: RawTime,
    #[prost(message, required, tag = "10")]
    updated: RawTime,
    #[prost(uint64, tag = "11")]
    version: u64,
    #[prost(bytes = "vec", optional, tag = "12")]
    description: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct RawFile {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(uint64, tag = "2")]
    length: u64,
    #[prost(uint64, tag = "3")]
    offset: u64,
    /// Left out for the empty content.
    #[prost(bytes = "vec", optional, tag = "4")]
    content: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "5")]
    digest: Option<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct RawTime {
    #[prost(uint64, tag = "1")]
    seconds: u64,
    #[prost(uint32, tag = "2")]
    nanos: u32,
}

#[derive(Clone, PartialEq, Message)]
struct RawQuarantined {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, required, tag = "2")]
    binding: RawBinding,
    #[prost(uint32, tag = "3")]
    reason: u32,
    #[prost(string, tag = "4")]
    text: String,
    #[prost(message, required, tag = "5")]
    at: RawTime,
}

pub(super) fn encode_binding(binding: &Binding) -> Vec<u8> {
    raw_binding(binding).encode_to_vec()
}

pub(super) fn encode_quarantined(row: &Quarantined) -> Vec<u8> {
    let raw = RawQuarantined {
        id: row.id,
        binding: raw_binding(&row.binding),
        reason: reason_number(row.reason),
        text: row.text.clone(),
        at: raw_time(row.at),
    };
    raw.encode_to_vec()
}

pub(super) fn decode_binding(bytes: &[u8]) -> Result<Record, RecordError> {
    let raw = RawBinding::decode(bytes).map_err(damaged)?;
    Ok(Record::Binding(Arc::new(binding(raw)?)))
}

pub(super) fn decode_quarantined(bytes: &[u8]) -> Result<Record, RecordError> {
    let raw = RawQuarantined::decode(bytes).map_err(damaged)?;
    let reason = [Reason::Conflict, Reason::Disproved]
        .into_iter()
        .find(|reason| reason_number(*reason) == raw.reason)
        .ok_or_else(|| damaged(format!("there is no reason {}", raw.reason)))?;
    let binding = Arc::new(binding(raw.binding)?);
    let row = Quarantined { id: raw.id, binding, reason, text: raw.text, at: time(raw.at)? };
    Ok(Record::Quarantined(Arc::new(row)))
}

fn raw_binding(binding: &Binding) -> RawBinding {
    let files = binding.files.iter().map(|file| RawFile {
        path: file.path.clone(),
        length: file.length,
        offset: file.offset,
        content: (file.content != EMPTY_CONTENT).then(|| file.content.as_bytes().to_vec()),
        digest: file.digest.as_ref().map(raw_name),
    });
    RawBinding {
        names: binding.names.iter().map(raw_name).collect(),
        length: binding.layout.length(),
        unit: binding.layout.unit(),
        files: files.collect(),
        evidence: evidence_number(binding.evidence),
        overlays: binding.overlays.iter().map(ToString::to_string).collect(),
        title: binding.title.clone(),
        stated_by: binding.stated_by.clone(),
        created: raw_time(binding.created),
        updated: raw_time(binding.updated),
        version: binding.version,
        description: binding.description.map(|digest| digest.to_vec()),
    }
}

fn binding(raw: RawBinding) -> Result<Binding, RecordError> {
    let names = raw.names.iter().map(|bytes| name(bytes)).collect::<Result<Vec<_>, _>>()?;
    if names.is_empty() {
        return Err(damaged("a binding has no name"));
    }
    let files = raw.files.into_iter().map(file).collect::<Result<Vec<_>, _>>()?;
    let layout = layout_of(raw.length, raw.unit, &files).map_err(damaged)?;
    let overlays = raw.overlays.iter().map(|id| id.parse::<OverlayId>().map_err(damaged));
    let description = raw.description.map(|bytes| {
        <[u8; 32]>::try_from(bytes)
            .map_err(|_| damaged("a digest of a description is not 32 bytes"))
    });
    Ok(Binding {
        names,
        layout: Arc::new(layout),
        files,
        evidence: [Evidence::Hint, Evidence::Attested, Evidence::Verified]
            .into_iter()
            .find(|evidence| evidence_number(*evidence) == raw.evidence)
            .ok_or_else(|| damaged(format!("there is no evidence {}", raw.evidence)))?,
        overlays: overlays.collect::<Result<_, _>>()?,
        title: raw.title,
        stated_by: raw.stated_by,
        created: time(raw.created)?,
        updated: time(raw.updated)?,
        version: raw.version,
        description: description.transpose()?,
    })
}

fn file(raw: RawFile) -> Result<FileEntry, RecordError> {
    let content = match raw.content {
        Some(bytes) => ContentId::try_from(bytes.as_slice()).map_err(damaged)?,
        None => EMPTY_CONTENT,
    };
    let digest = raw.digest.map(|bytes| name(&bytes)).transpose()?;
    Ok(FileEntry { path: raw.path, length: raw.length, offset: raw.offset, content, digest })
}

pub(super) fn raw_name(name: &Name) -> Vec<u8> {
    let mut bytes = vec![name.scheme() as u8];
    bytes.extend_from_slice(name.digest());
    bytes
}

fn name(bytes: &[u8]) -> Result<Name, RecordError> {
    let (number, digest) = bytes.split_first().ok_or_else(|| damaged("a name is empty"))?;
    let scheme = Scheme::from_number(*number)
        .ok_or_else(|| damaged(format!("there is no scheme {number}")))?;
    Name::new(scheme, digest).map_err(damaged)
}

fn raw_time(time: SystemTime) -> RawTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    RawTime { seconds: since.as_secs(), nanos: since.subsec_nanos() }
}

fn time(raw: RawTime) -> Result<SystemTime, RecordError> {
    let since = Duration::from_secs(raw.seconds)
        .checked_add(Duration::from_nanos(raw.nanos.into()))
        .and_then(|since| UNIX_EPOCH.checked_add(since));
    since.ok_or_else(|| damaged("a time is out of bounds"))
}

fn evidence_number(evidence: Evidence) -> u32 {
    match evidence {
        Evidence::Hint => 1,
        Evidence::Attested => 2,
        Evidence::Verified => 3,
    }
}

fn reason_number(reason: Reason) -> u32 {
    match reason {
        Reason::Conflict => 1,
        Reason::Disproved => 2,
    }
}

fn damaged(what: impl ToString) -> RecordError {
    RecordError(what.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn any_binding()(
            names in prop::collection::vec(any::<[u8; 20]>(), 1..3),
            rows in prop::collection::vec((".{0,9}", 0u64..5, 0u64..9, any::<Option<[u8; 32]>>()), 0..5),
            evidence in 0usize..3,
            overlays in prop::collection::vec("[a-z0-9-]{1,32}", 0..3),
            (title, stated_by) in (".{0,9}", ".{0,9}"),
            created in 0u64..1 << 40,
            version: u64,
            unit in 1u64..9,
            description: Option<[u8; 32]>,
        ) -> Binding {
            let mut end = 0;
            let files: Vec<_> = rows.into_iter().enumerate().map(|(at, (path, gap, length, digest))| {
                let offset = end + gap;
                end = offset + length;
                let content = ContentId::from_bytes([at as u8 + 1; 16]);
                let content = if length == 0 { EMPTY_CONTENT } else { content };
                let digest = digest.and_then(|digest| Name::with_32(Scheme::PiecesRoot, digest));
                FileEntry { path, length, offset, content, digest }
            }).collect();
            Binding {
                names: names.into_iter().map(Name::btih).collect(),
                layout: Arc::new(layout_of(end + 3, unit, &files).unwrap()),
                files,
                evidence: [Evidence::Hint, Evidence::Attested, Evidence::Verified][evidence],
                overlays: overlays.iter().map(|id| id.parse().unwrap()).collect(),
                title,
                stated_by,
                created: UNIX_EPOCH + Duration::from_nanos(created),
                updated: UNIX_EPOCH + Duration::from_nanos(created * 2),
                version,
                description,
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_comes_back(binding in any_binding(), id: u64, alarm: bool, text in ".{0,9}") {
            let reason = if alarm { Reason::Disproved } else { Reason::Conflict };
            let (binding, at) = (Arc::new(binding), UNIX_EPOCH);
            let row = Quarantined { id, binding: Arc::clone(&binding), reason, text, at };
            let back = decode_binding(&encode_binding(&binding)).unwrap();
            prop_assert_eq!(back, Record::Binding(binding));
            let back = decode_quarantined(&encode_quarantined(&row)).unwrap();
            prop_assert_eq!(back, Record::Quarantined(Arc::new(row)));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            let _ = decode_binding(&bytes);
            let _ = decode_quarantined(&bytes);
        }
    }

    #[test]
    fn an_empty_record_is_damaged() {
        assert_eq!(
            decode_binding(&[]).unwrap_err().to_string(),
            "a record is damaged: a binding has no name"
        );
    }
}

//! The desk where names are bound: descriptions and lists in, bindings and contents out.

mod compose;
mod contents;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;
use p2pbridge_adapters::{Description, registry};
use p2pbridge_nametable::{
    BindError, Binding, Content, MAX_TITLE, NameTable, Proposal, ProposedFile, Statement,
    StoreError,
};
use p2pbridge_proto::{Evidence, OverlayId, v1};
use thiserror::Error;
use url::Url;

pub use self::compose::{Composer, InUse};
pub use self::contents::{MOST_ROWS, content_row, content_rows};
use self::contents::{label_of, statement};
use crate::blobs::{BlobError, BlobId, Blobs};

/// The most bytes of a description (32 MiB).
pub const MOST_DESCRIPTION: usize = 32 << 20;
/// At so many remembered descriptions, those that nobody uses any more are forgotten.
const SWEEP: usize = 1024;

/// What the desk knows of an overlay.
#[derive(Debug, Clone)]
pub struct OverlayInfo {
    /// Its id.
    pub id: OverlayId,
    /// The protocol that it speaks.
    pub protocol: &'static str,
    /// Its trackers, as configured.
    pub trackers: Vec<String>,
}

/// Binds descriptions, and gives them back. All calls block: make them off the async threads.
pub struct NameDesk {
    table: Arc<NameTable>,
    blobs: Blobs,
    overlays: Vec<OverlayInfo>,
    in_use: Mutex<HashMap<BlobId, Weak<Description>>>,
}

/// What a description comes to.
enum Proposed {
    /// A name with its layout.
    Binding(Proposal),
    /// Names of bytes that no overlay here speaks of: there is nobody who would need the layout.
    Names(Statement),
}

/// Why names were not bound, or a description not given.
#[derive(Debug, Error)]
pub enum NameFault {
    /// No protocol understands the bytes.
    #[error("{label}: {problem}")]
    Description {
        /// The item.
        label: String,
        /// What each protocol found wrong.
        problem: String,
    },
    /// The description forbids that its content leaves its overlay (BEP 27).
    #[error("{label} is private (BEP 27): nothing private crosses, so it is not bound")]
    Private {
        /// The item.
        label: String,
    },
    /// There is no such overlay.
    #[error("{label}: there is no overlay `{overlay}`; there are: {known}")]
    UnknownOverlay {
        /// The item.
        label: String,
        /// What was asked for.
        overlay: String,
        /// The ids that there are.
        known: String,
    },
    /// The overlay speaks another protocol.
    #[error("{label} is of {protocol}, and overlay `{overlay}` speaks {speaks}")]
    OtherProtocol {
        /// The item.
        label: String,
        /// The description's protocol.
        protocol: &'static str,
        /// What was asked for.
        overlay: OverlayId,
        /// The overlay's protocol.
        speaks: &'static str,
    },
    /// The name table refused.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// What is said of names is not well formed.
    #[error("{label}: {problem}")]
    Content {
        /// The item, or the row.
        label: String,
        /// What is wrong with it.
        problem: String,
    },
    /// What is said contradicts what is known.
    #[error("{0}")]
    Refused(String),
    /// Somebody else took back at the same moment what was bound.
    #[error("what was bound was taken back at the same moment")]
    Gone,
    /// The table's store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The description could not be kept, or not be had.
    #[error("cannot keep or read a description: {0}")]
    Blob(#[from] BlobError),
    /// The binding was made without a description.
    #[error("{0} was bound without a description")]
    NoDescription(p2pbridge_proto::Name),
}

impl NameDesk {
    /// A desk over a table, a place for descriptions, and the overlays of the configuration.
    #[must_use]
    pub fn new(table: Arc<NameTable>, blobs: Blobs, overlays: Vec<OverlayInfo>) -> Self {
        Self { table, blobs, overlays, in_use: Mutex::default() }
    }

    /// The table of names.
    #[must_use]
    pub fn table(&self) -> &Arc<NameTable> {
        &self.table
    }

    /// States that descriptions and names stand for the same content, or makes one known alone. All or nothing; repeating
    /// it changes nothing. The descriptions are kept before the names are bound.
    ///
    /// # Errors
    /// When one cannot be read, may not be bound, or does not fit the others; when the disk does not take them.
    pub fn bind(
        &self,
        items: &[v1::BindItem],
        stated_by: &str,
    ) -> Result<(Vec<Arc<Binding>>, Vec<Content>), NameFault> {
        let (mut proposals, mut rows, mut described) = (Vec::new(), Vec::new(), Vec::new());
        for (item, number) in items.iter().zip(1..) {
            let label = label_of(item, &format!("item {number}"));
            let fault = |problem| NameFault::Content { label: label.clone(), problem };
            let read = |row| statement(row, Evidence::Attested, &stated_by.into());
            let said = item.content.as_ref().map(read).transpose().map_err(fault)?;
            if let (true, Some(said)) = (item.description.is_empty(), &said) {
                rows.push((label, said.clone()));
                continue;
            }
            let proposed = match (self.propose(item, label.clone(), stated_by), &said) {
                // Nobody here transfers such a thing; its names are names all the same.
                (Err(NameFault::Description { .. }), Some(said)) => Proposed::Names(said.clone()),
                (proposed, _) => proposed?,
            };
            match proposed {
                Proposed::Binding(proposal) => {
                    proposals.push(proposal);
                    described.push(item);
                    rows.extend(said.map(|said| (label, said)));
                }
                Proposed::Names(names) => rows.push((label, said.unwrap_or(names))),
            }
        }
        if proposals.is_empty() {
            return Ok((Vec::new(), self.bind_alone(rows)?));
        }
        for (proposal, item) in proposals.iter_mut().zip(described) {
            proposal.description = Some(self.blobs.put(&item.description)?);
        }
        self.bind_contents(&mut proposals, &rows)
    }

    /// The description of a binding. It is read once, as long as somebody uses it.
    ///
    /// # Errors
    /// When the disk does not give it, or it was damaged.
    pub fn description(&self, binding: &Binding) -> Result<Arc<Description>, NameFault> {
        let id = binding.description.ok_or_else(|| NameFault::NoDescription(binding.name()))?;
        let cached = |known: &HashMap<BlobId, Weak<Description>>| known.get(&id)?.upgrade();
        if let Some(found) = cached(&self.in_use.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(found);
        }
        let bytes = self.blobs.get(&id)?;
        let (_, description) = describe(&bytes, &binding.title)?;
        let mut known = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have read it meanwhile: all use the same.
        if let Some(found) = cached(&known) {
            return Ok(found);
        }
        if known.len() >= SWEEP {
            known.retain(|_, description| description.strong_count() > 0);
        }
        let description = Arc::new(description);
        known.insert(id, Arc::downgrade(&description));
        Ok(description)
    }

    /// The bytes of a binding's description, as they were bound.
    ///
    /// # Errors
    /// When it has none, or the disk does not give it.
    pub fn description_bytes(&self, binding: &Binding) -> Result<Bytes, NameFault> {
        let id = binding.description.ok_or_else(|| NameFault::NoDescription(binding.name()))?;
        Ok(self.blobs.get(&id)?)
    }

    fn propose(
        &self,
        item: &v1::BindItem,
        label: String,
        stated_by: &str,
    ) -> Result<Proposed, NameFault> {
        if item.description.len() > MOST_DESCRIPTION {
            let problem = format!(
                "it has {} bytes; a description has at most {MOST_DESCRIPTION}",
                item.description.len()
            );
            return Err(NameFault::Description { label, problem });
        }
        let (protocol, description) = describe(&item.description, &label)?;
        if description.private {
            return Err(NameFault::Private { label });
        }
        let overlays = self.overlays_of(item, &label, protocol, &description)?;
        let of_bytes = description.names.iter().all(|name| name.scheme().is_of_bytes());
        if of_bytes && (overlays.is_empty() || description.length == 0) {
            return Ok(Proposed::Names(Statement {
                content: None,
                names: description.names,
                length: Some(description.length),
                title: description.title.chars().take(MAX_TITLE).collect(),
                evidence: Evidence::Attested,
                stated_by: stated_by.into(),
            }));
        }
        Ok(Proposed::Binding(proposal_of(description, overlays, label, stated_by)))
    }

    /// The overlay that was asked for; else those of the trackers that the description names; else all of its protocol.
    fn overlays_of(
        &self,
        item: &v1::BindItem,
        label: &str,
        protocol: &'static str,
        description: &Description,
    ) -> Result<Vec<OverlayId>, NameFault> {
        if !item.overlay.is_empty() {
            let Some(found) = self.overlays.iter().find(|known| known.id.as_str() == item.overlay)
            else {
                let known: Vec<_> = self.overlays.iter().map(|known| known.id.as_str()).collect();
                return Err(NameFault::UnknownOverlay {
                    label: label.to_owned(),
                    overlay: item.overlay.chars().take(64).collect(),
                    known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
                });
            };
            if found.protocol != protocol {
                return Err(NameFault::OtherProtocol {
                    label: label.to_owned(),
                    protocol,
                    overlay: found.id.clone(),
                    speaks: found.protocol,
                });
            }
            return Ok(vec![found.id.clone()]);
        }
        let named: Vec<_> =
            description.trackers.iter().flatten().filter_map(|url| normalised(url)).collect();
        let of_protocol = || self.overlays.iter().filter(|known| known.protocol == protocol);
        let is_named = |overlay: &&OverlayInfo| {
            overlay
                .trackers
                .iter()
                .any(|url| normalised(url).is_some_and(|url| named.contains(&url)))
        };
        let mut found: Vec<_> = of_protocol().filter(is_named).map(|o| o.id.clone()).collect();
        if found.is_empty() {
            found = of_protocol().map(|overlay| overlay.id.clone()).collect();
        }
        Ok(found)
    }
}

/// A description as the table takes it; kept nowhere yet.
fn proposal_of(
    description: Description,
    overlays: Vec<OverlayId>,
    label: String,
    stated_by: &str,
) -> Proposal {
    let files = description.files.into_iter().map(|file| ProposedFile {
        path: file.path,
        offset: file.offset,
        length: file.length,
        digest: file.digest,
    });
    Proposal {
        names: description.names,
        title: description.title,
        length: description.length,
        unit: description.unit,
        files: files.collect(),
        overlays,
        label,
        stated_by: stated_by.to_owned(),
        description: None,
    }
}

fn describe(bytes: &[u8], label: &str) -> Result<(&'static str, Description), NameFault> {
    let (descriptor, description) = registry::describe(bytes).map_err(|error| {
        NameFault::Description { label: label.to_owned(), problem: error.to_string() }
    })?;
    Ok((descriptor.protocol, description))
}

/// What two spellings of one tracker's address have in common: scheme, host, port and path. `None` for no address.
fn normalised(url: &str) -> Option<(String, String, u16, String)> {
    let url = Url::parse(url.trim()).ok()?;
    let host = url.host_str()?.trim_end_matches('.').to_ascii_lowercase();
    let path = match url.path() {
        // Over UDP the path means nothing (BEP 15).
        _ if url.scheme() == "udp" => "/",
        "" => "/",
        path => path,
    };
    let port = url.port_or_known_default().unwrap_or(0);
    Some((url.scheme().to_owned(), host, port, path.to_owned()))
}

/// A binding as the API shows it.
#[must_use]
pub fn row(binding: &Binding) -> v1::Binding {
    let files = binding.files.iter().map(|file| v1::File {
        path: file.path.clone(),
        length: file.length,
        offset: file.offset,
        content_id: file.content.as_bytes().to_vec(),
    });
    v1::Binding {
        names: binding.names.iter().map(|name| (*name).into()).collect(),
        urns: binding.names.iter().map(ToString::to_string).collect(),
        layout: Some((&*binding.layout).into()),
        files: files.collect(),
        evidence: v1::Evidence::from(binding.evidence).into(),
        overlays: binding.overlays.iter().map(ToString::to_string).collect(),
        title: binding.title.clone(),
        stated_by: binding.stated_by.clone(),
        create_time: Some(binding.created.into()),
        update_time: Some(binding.updated.into()),
        version: binding.version,
    }
}

#[cfg(test)]
pub(crate) mod tests;

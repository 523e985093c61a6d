//! Descriptions that the bridge makes itself: where a name and a length say all that a protocol needs, what is known of
//! a file of a bound description is bound in the overlays to which, or from which, its bytes may cross.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use p2pbridge_adapters::{AboutFile, Descriptor, registry};
use p2pbridge_nametable::{Binding, COMPOSED, Content, EMPTY_CONTENT, FileEntry};
use p2pbridge_proto::{ContentId, Evidence, Name, OverlayId};
use tokio_util::sync::CancellationToken;

use super::{NameDesk, NameFault, proposal_of};
use crate::routes::Routes;

/// How often it is seen whether names have changed.
const LOOK: Duration = Duration::from_millis(500);
/// So many times as long as the last round took, the next one waits: what it costs is bounded.
const REST: u32 = 20;
/// The most bindings that are composed.
const MOST: usize = 10_000;
/// The most compositions that are remembered because they came to nothing.
const MOST_REFUSED: usize = 10_000;
/// A new name ends the transfers of the names that share its bytes, and begins them anew with it. So it comes when
/// nothing has moved for so long,
const QUIET: Duration = Duration::from_secs(5);
/// or when it has waited so long.
const LONGEST: Duration = Duration::from_secs(600);

/// Tells how many bytes of a name's contents have been taken by peers that are served now; `None` when none is.
pub type InUse = Arc<dyn Fn(&Name) -> Option<u64> + Send + Sync>;

/// Binds composed descriptions, and takes them back when what they were made of is gone.
pub struct Composer {
    desk: Arc<NameDesk>,
    routes: Arc<Routes>,
    in_use: InUse,
    /// Names for whose bytes to rest, with the bytes taken, since when these are the same, and since when it waits.
    waiting: HashMap<Name, (u64, Instant, Instant)>,
    /// What came to nothing, and would again.
    refused: HashSet<(Name, ContentId)>,
}

/// A name that is to be bound.
struct Wanted {
    overlays: BTreeSet<OverlayId>,
    content: ContentId,
    length: u64,
    title: String,
    /// It, and other names of the same bytes.
    names: Vec<Name>,
    protocol: &'static Descriptor,
    /// The main name of a binding that has the content.
    ground: Name,
}

/// What there should be, and what there is.
#[derive(Default)]
struct Plan {
    wanted: BTreeMap<Name, Wanted>,
    composed: Vec<Arc<Binding>>,
    left_out: usize,
}

impl Composer {
    /// One that has done nothing yet.
    #[must_use]
    pub fn new(desk: Arc<NameDesk>, routes: Arc<Routes>, in_use: InUse) -> Self {
        Self { desk, routes, in_use, waiting: HashMap::new(), refused: HashSet::new() }
    }

    /// Follows the names until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut seen = None;
        loop {
            let changes = self.desk.table().changes();
            let mut rest = LOOK;
            if seen != Some(changes) || !self.waiting.is_empty() {
                seen = Some(changes);
                let started = Instant::now();
                let round = tokio::task::spawn_blocking(move || {
                    self.round(Instant::now());
                    self
                });
                self = match round.await {
                    Ok(composer) => composer,
                    Err(error) => {
                        tracing::error!(%error, "the composer of descriptions broke down");
                        return;
                    }
                };
                rest = rest.max(started.elapsed().saturating_mul(REST));
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// Takes back all that was ever composed: for a bridge that is told not to compose.
    ///
    /// # Errors
    /// When the store does not take it.
    pub fn undo(desk: &NameDesk) -> Result<(), NameFault> {
        let mut all = Vec::new();
        each_binding(desk, |binding| {
            all.extend(binding.is_composed().then(|| binding.name()));
        });
        all.iter().try_for_each(|name| Ok(desk.table().decompose(name).map(drop)?))
    }

    /// Brings the composed bindings in line with what is known now.
    fn round(&mut self, now: Instant) {
        let plan = self.plan();
        if plan.left_out > 0 {
            tracing::warn!(left_out = plan.left_out, most = MOST, "too many names to compose all");
        }
        self.waiting.retain(|name, _| plan.wanted.contains_key(name));
        for binding in &plan.composed {
            let stays =
                plan.wanted.get(&binding.name()).is_some_and(|wanted| fits(binding, wanted));
            if !stays && let Err(error) = self.desk.table().decompose(&binding.name()) {
                tracing::warn!(name = %binding.name(), %error, "a composed name stays bound");
            }
        }
        for (name, wanted) in &plan.wanted {
            let is_new = self.desk.table().get(name).is_none();
            if is_new
                && !self.refused.contains(&(*name, wanted.content))
                && self.rests(name, wanted, now)
            {
                self.compose(name, wanted);
            }
        }
    }

    /// Whether no transfer would be disturbed.
    fn rests(&mut self, name: &Name, wanted: &Wanted, now: Instant) -> bool {
        let Some(taken) = (self.in_use)(&wanted.ground) else {
            self.waiting.remove(name);
            return true;
        };
        let (before, moved, since) = self.waiting.entry(*name).or_insert((taken, now, now));
        if *before != taken {
            (*before, *moved) = (taken, now);
        }
        let rests = now.duration_since(*moved) >= QUIET || now.duration_since(*since) >= LONGEST;
        if rests {
            self.waiting.remove(name);
        }
        rests
    }

    fn compose(&mut self, name: &Name, wanted: &Wanted) {
        match self.desk.compose(wanted) {
            Ok(Some(binding)) if has(&binding, wanted) => {
                let overlays: Vec<_> = wanted.overlays.iter().map(OverlayId::as_str).collect();
                tracing::info!(%name, overlays = overlays.join(" "), "a description is composed");
            }
            Ok(None) => self.refuse(name, wanted),
            Ok(Some(_)) => {
                tracing::warn!(%name, "a composed name came to other bytes");
                // What is left of it is seen in the next round.
                let _ = self.desk.table().decompose(name);
                self.refuse(name, wanted);
            }
            Err(error) => {
                tracing::warn!(%name, %error, "a description is not composed");
                self.refuse(name, wanted);
            }
        }
    }

    fn refuse(&mut self, name: &Name, wanted: &Wanted) {
        if self.refused.len() >= MOST_REFUSED {
            self.refused.clear();
        }
        self.refused.insert((*name, wanted.content));
    }

    /// Looks at every binding that somebody has stated.
    fn plan(&self) -> Plan {
        let composing: Vec<&'static Descriptor> =
            registry::PROTOCOLS.iter().copied().filter(|it| it.compose.is_some()).collect();
        let mut plan = Plan::default();
        each_binding(&self.desk, |binding| {
            if binding.is_composed() {
                plan.composed.push(Arc::clone(binding));
                return;
            }
            for protocol in &composing {
                let overlays = self.overlays(protocol, binding);
                if overlays.is_empty() {
                    continue;
                }
                for file in binding.files.iter().filter(|file| file.content != EMPTY_CONTENT) {
                    self.plan_file(&mut plan, protocol, &overlays, binding, file);
                }
            }
        });
        plan
    }

    fn plan_file(
        &self,
        plan: &mut Plan,
        protocol: &'static Descriptor,
        overlays: &BTreeSet<OverlayId>,
        binding: &Binding,
        file: &FileEntry,
    ) {
        let Some(content) = self.desk.table().content(&file.content) else { return };
        for name in sure(&content).filter(|name| protocol.schemes.contains(&name.scheme())) {
            if let Some(known) = plan.wanted.get_mut(&name) {
                known.overlays.extend(overlays.iter().cloned());
                continue;
            }
            if plan.wanted.len() >= MOST {
                plan.left_out += 1;
                continue;
            }
            // Of a scheme that has several names for the same bytes, each is described by itself.
            let others = sure(&content).filter(|other| other.scheme() != name.scheme());
            let end = file.path.rsplit('/').next().unwrap_or_default();
            let wanted = Wanted {
                overlays: overlays.clone(),
                content: file.content,
                length: file.length,
                title: if end.is_empty() { &content.title } else { end }.to_owned(),
                names: [name].into_iter().chain(others).collect(),
                protocol,
                ground: binding.name(),
            };
            plan.wanted.insert(name, wanted);
        }
    }

    /// The overlays of a protocol to which, or from which, bytes of a binding may cross.
    fn overlays(&self, protocol: &Descriptor, binding: &Binding) -> BTreeSet<OverlayId> {
        let crosses = |one: &OverlayId, other: &OverlayId| {
            one != other
                && (self.routes.between(one, other).is_some()
                    || self.routes.between(other, one).is_some())
        };
        let of_protocol =
            self.desk.overlays.iter().filter(|overlay| overlay.protocol == protocol.protocol);
        of_protocol
            .map(|overlay| &overlay.id)
            .filter(|id| binding.overlays.iter().any(|other| crosses(id, other)))
            .cloned()
            .collect()
    }
}

impl NameDesk {
    /// Binds what the protocol makes of a name; `None` when it makes nothing of it.
    fn compose(&self, wanted: &Wanted) -> Result<Option<Arc<Binding>>, NameFault> {
        let Wanted { names, title, length, .. } = wanted;
        let about = AboutFile { names, title, length: *length };
        let made = wanted.protocol.compose.and_then(|compose| compose(&about));
        let Some(made) = made else { return Ok(None) };
        let read = (wanted.protocol.describe)(&made).map_err(|error| NameFault::Description {
            label: title.clone(),
            problem: error.to_string(),
        })?;
        let overlays = wanted.overlays.iter().cloned().collect();
        let mut proposal = proposal_of(read, overlays, title.clone(), COMPOSED);
        proposal.description = Some(self.blobs.put(&made)?);
        Ok(self.table.bind(&[proposal])?.into_iter().next())
    }
}

/// The names of bytes of a content that are more than hints.
fn sure(content: &Content) -> impl Iterator<Item = Name> {
    content
        .names
        .iter()
        .filter(|known| known.evidence >= Evidence::Attested && known.name.scheme().is_of_bytes())
        .map(|known| known.name)
}

/// Whether a binding is of the content that is meant.
fn has(binding: &Binding, wanted: &Wanted) -> bool {
    binding.files.iter().any(|file| file.content == wanted.content)
}

fn fits(binding: &Binding, wanted: &Wanted) -> bool {
    has(binding, wanted)
        && binding.overlays.iter().cloned().collect::<BTreeSet<_>>() == wanted.overlays
}

fn each_binding(desk: &NameDesk, mut each: impl FnMut(&Arc<Binding>)) {
    let mut after = None;
    loop {
        let (page, next) = desk.table().list(after.as_ref(), 1_000);
        page.iter().for_each(&mut each);
        if next.is_none() {
            return;
        }
        after = next;
    }
}

#[cfg(test)]
mod tests;

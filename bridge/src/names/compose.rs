//! Descriptions that the bridge makes itself: where a name and a length say all that a protocol needs, what is known of
//! a file of a bound description is bound in the overlays to which, or from which, its bytes may cross.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::{Duration, Instant},
};

use p2pbridge_adapters::{AboutFile, Descriptor, registry};
use p2pbridge_nametable::{BindError, Binding, COMPOSED, Content, EMPTY_CONTENT, FileEntry};
use p2pbridge_proto::{ContentId, Evidence, Name, OverlayId};
use tokio_util::sync::CancellationToken;

use super::{NameDesk, NameFault, proposal_of};
use crate::{routes::Routes, status::alarms::Alarms};

/// How often it is seen whether names have changed.
const LOOK: Duration = Duration::from_millis(500);
/// So many times as long as the last round took, the next one waits: what it costs is bounded.
const REST: u32 = 20;
/// The most bindings that are composed.
const MOST: usize = 10_000;
/// The alarm that there are more.
const TOO_MANY: &str = "composed names";
/// What a store or a disk does not take is tried again after so long.
const AGAIN: Duration = Duration::from_secs(30);
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
    /// What came to nothing, and would again as long as no more is known of it: its print.
    refused: HashMap<Name, u64>,
    /// Something failed that may go well another time: then.
    again: Option<Instant>,
    alarms: Arc<Alarms>,
    most: usize,
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
    /// How many names each binding asks for, those aside that another has asked for.
    asked: Vec<usize>,
}

impl Composer {
    /// One that has done nothing yet.
    #[must_use]
    pub fn new(
        desk: Arc<NameDesk>,
        routes: Arc<Routes>,
        in_use: InUse,
        alarms: Arc<Alarms>,
    ) -> Self {
        let (waiting, refused) = (HashMap::new(), HashMap::new());
        Self { desk, routes, in_use, waiting, refused, again: None, alarms, most: MOST }
    }

    /// Follows the names until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut seen = None;
        loop {
            let changes = self.desk.table().changes();
            let mut rest = LOOK;
            let is_due = self.again.is_some_and(|again| again <= Instant::now());
            if seen != Some(changes) || !self.waiting.is_empty() || is_due {
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
        match plan.left_out {
            0 => self.alarms.clear(TOO_MANY),
            left_out => {
                let most = self.most;
                let text =
                    format!("{left_out} names of files are not composed: there are {most} at most");
                self.alarms.raise(TOO_MANY, text);
            }
        }
        self.waiting.retain(|name, _| plan.wanted.contains_key(name));
        self.refused.retain(|name, _| plan.wanted.contains_key(name));
        let rests = self.again.is_some_and(|again| now < again);
        self.again = self.again.filter(|_| rests);
        for binding in &plan.composed {
            let stays =
                plan.wanted.get(&binding.name()).is_some_and(|wanted| fits(binding, wanted));
            if !stays && let Err(error) = self.desk.table().decompose(&binding.name()) {
                if self.again.is_none() {
                    tracing::warn!(name = %binding.name(), %error, "a composed name stays bound");
                }
                self.again.get_or_insert(now + AGAIN);
            }
        }
        for (name, wanted) in &plan.wanted {
            let is_new = self.desk.table().get(name).is_none();
            if is_new
                && !rests
                && self.refused.get(name) != Some(&wanted.print())
                && self.rests(name, wanted, now)
            {
                self.compose(name, wanted, now);
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

    fn compose(&mut self, name: &Name, wanted: &Wanted, now: Instant) {
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
            Err(error) if may_pass(&error) => {
                // Of many that fail together one is told.
                if self.again.is_none() {
                    tracing::warn!(%name, %error, "a description is not composed yet");
                }
                self.again.get_or_insert(now + AGAIN);
            }
            Err(error) => {
                tracing::warn!(%name, %error, "a description is not composed");
                self.refuse(name, wanted);
            }
        }
    }

    fn refuse(&mut self, name: &Name, wanted: &Wanted) {
        self.refused.insert(*name, wanted.print());
    }

    /// What there should be. Where that is too much, each binding has its share: one of very many files does not shut
    /// out the others.
    fn plan(&self) -> Plan {
        let plan = self.plan_with(usize::MAX);
        if plan.left_out == 0 { plan } else { self.plan_with(share(plan.asked, self.most)) }
    }

    /// Looks at every binding that somebody has stated, and takes so many names of each.
    fn plan_with(&self, share: usize) -> Plan {
        let composing: Vec<&'static Descriptor> =
            registry::PROTOCOLS.iter().copied().filter(|it| it.compose.is_some()).collect();
        let mut plan = Plan::default();
        each_binding(&self.desk, |binding| {
            if binding.is_composed() {
                plan.composed.push(Arc::clone(binding));
                return;
            }
            let mut asked = 0;
            for protocol in &composing {
                let overlays = self.overlays(protocol, binding);
                if overlays.is_empty() {
                    continue;
                }
                for file in binding.files.iter().filter(|file| file.content != EMPTY_CONTENT) {
                    self.plan_file(
                        &mut plan,
                        protocol,
                        &overlays,
                        binding,
                        file,
                        (&mut asked, share),
                    );
                }
            }
            plan.asked.extend((asked > 0).then_some(asked));
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
        (asked, share): (&mut usize, usize),
    ) {
        let Some(content) = self.desk.table().content(&file.content) else { return };
        for name in sure(&content).filter(|name| protocol.schemes.contains(&name.scheme())) {
            if let Some(known) = plan.wanted.get_mut(&name) {
                known.overlays.extend(overlays.iter().cloned());
                continue;
            }
            *asked += 1;
            if plan.wanted.len() >= self.most || *asked > share {
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
        let about = AboutFile {
            names: names.clone(),
            title: title.clone(),
            length: *length,
            chunks: Vec::new(),
        };
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

impl Wanted {
    /// Changes with what it would be made of.
    fn print(&self) -> u64 {
        let Self { overlays, content, length, title, names, .. } = self;
        let mut hasher = DefaultHasher::new();
        (overlays, content, length, title, names).hash(&mut hasher);
        hasher.finish()
    }
}

/// Whether it may go well another time, though nothing else is known then.
fn may_pass(error: &NameFault) -> bool {
    use NameFault::{Bind, Blob, Gone, Store};
    match error {
        Bind(error) => matches!(error, BindError::Store(_) | BindError::Random(_)),
        other => matches!(other, Blob(_) | Gone | Store(_)),
    }
}

/// How many each may have at most, of those who ask for so many, so that there are no more than `most` in all.
fn share(mut asked: Vec<usize>, most: usize) -> usize {
    asked.sort_unstable();
    let (mut left, mut others) = (most, asked.len());
    for asked in asked {
        let share = left / others.max(1);
        if asked > share {
            return share.max(1);
        }
        left -= asked;
        others -= 1;
    }
    most
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

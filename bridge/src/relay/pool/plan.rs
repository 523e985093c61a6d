//! What to fetch next: in order, ahead of the peer that is furthest on, and never more than the bounds allow.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering,
};

use p2pbridge_adapters::SourceError;
use tokio::time::{Duration, Instant};

use super::{
    Consumer,
    driver::{Done, Driver, State},
    lock,
    sources::{Source, SourceId},
};
use crate::relay::{grid::Part, limits::Limits};

/// How long the plan waits for memory that other pools hold.
const WAIT_FOR_MEMORY: Duration = Duration::from_millis(100);

/// How many blocks to each side count as neighbours, which are best brought by one source.
const NEAR: usize = 4;

/// Bytes that are planned at least before no more chunks are read ahead in one plan.
const MOST_PLANNED: u64 = 64 << 20;

/// A source is too late for what is wanted at once when it takes so many times as long as the quickest that has it, and
/// so many seconds more.
const TOO_LATE: f64 = 4.0;
const TOO_LATE_AT_LEAST: f64 = 1.0;

/// Why a block was not asked for.
enum Refusal {
    /// No source has it, or all that have it are busy.
    NoSource { held_by_nobody: bool },
    /// Those that have it, and who wants it, have no hashes by which it could be verified.
    Unverifiable,
    /// A bound is reached; nothing more can be asked for now.
    Bound,
    /// The limits of the routes from those that have it forbid it until then.
    Limited(Instant),
}

/// A name and one of its chunks.
pub(super) type Chunk = (usize, u32);

/// A block that is to be fetched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    pub(super) block: usize,
    pub(super) consumer: usize,
    /// For the sake of which chunk.
    pub(super) of: Chunk,
    /// Whether somebody waits for it, or it is of the chunk that is served next.
    pub(super) soon: bool,
}

/// What is to be fetched.
#[derive(Default)]
struct Wants {
    wants: Vec<Want>,
    /// Bytes of them.
    bytes: u64,
    /// The chunks for the sake of which something is fetched, or being fetched, in order.
    chunks: Vec<Chunk>,
}

impl Driver {
    /// Asks sources for what is wanted, as far as the bounds allow.
    pub(super) fn plan(&mut self) {
        self.store_again();
        self.let_go();
        self.give_up_laggards();
        self.sources.measure(self.shared.common.limits.per_source, Instant::now());
        let Wants { wants, chunks, .. } = self.wanted();
        // However little memory is left, one chunk goes on, so that no pool waits for another for ever: the first that
        // somebody has.
        let mut next_chunk = chunks.iter().copied();
        let mut exempt = next_chunk.next();
        // Nobody holds something that is wanted; something wanted finds nobody with room.
        let (mut lonely, mut starved, mut limited, mut unverifiable) = (false, false, false, false);
        let (mut asked, mut cut) = (HashSet::new(), false);
        // Chunks that nobody has, or nobody could verify: others may go over the bound in their place.
        let mut hopeless = HashSet::new();
        for want in &wants {
            if !asked.insert(want.block) || !matches!(self.blocks[want.block], State::Missing) {
                continue;
            }
            if !self.has_room() {
                (starved, cut) = (true, true);
                break;
            }
            match self.ask(want, exempt == Some(want.of)) {
                Ok(()) => {}
                Err(Refusal::NoSource { held_by_nobody }) => {
                    starved = true;
                    lonely |= held_by_nobody;
                    if held_by_nobody && exempt == Some(want.of) {
                        hopeless.insert(want.of);
                        exempt = next_chunk.next();
                    }
                }
                // Others may have what else is wanted, by another route.
                Err(Refusal::Limited(again)) => {
                    limited = true;
                    self.wake_at = self.wake_at.min(again);
                }
                Err(Refusal::Unverifiable) => {
                    unverifiable = true;
                    if exempt == Some(want.of) {
                        hopeless.insert(want.of);
                        exempt = next_chunk.next();
                    }
                }
                Err(Refusal::Bound) if hopeless.contains(&want.of) => {}
                Err(Refusal::Bound) => {
                    self.shed(&chunks);
                    cut = true;
                    break;
                }
            }
        }
        self.urgent.retain(|want| matches!(self.blocks[want.block], State::Missing));
        self.note_lonely(lonely, cut);
        if lonely {
            self.drop_useless();
        }
        starved |= limited && self.another_route_is_free();
        let taken = self.shared.taken.load(Ordering::Relaxed);
        self.demand.note(taken, starved, Instant::now());
        self.mind_sources(!wants.is_empty(), lonely);
        self.explain(wants.is_empty(), lonely, unverifiable);
    }

    /// Whether some source can be asked for more.
    fn has_room(&self) -> bool {
        self.sources.connected().values().any(|source| source.has_room(1))
            || self.sources.connected().is_empty()
    }

    /// When all places are taken and nobody holds what is wanted, makes place for somebody else.
    fn drop_useless(&mut self) {
        let waiting = self.sources.waiting();
        if self.sources.connected().len() - waiting >= self.shared.common.limits.sources {
            let idle = |(_, source): &(&SourceId, &Source)| source.is_idle();
            let idle = self.sources.connected().iter().find(idle);
            if let Some((id, _)) = idle {
                let id = *id;
                self.drop_source(id, "it does not hold what is wanted");
            }
        }
    }

    /// What is missing, in the order in which it is to be fetched: what decides who lied, what readers wait for, and what
    /// is read ahead.
    fn wanted(&mut self) -> Wants {
        self.look_around();
        let shared = self.shared.clone();
        let mut wanted = Wants::default();
        for want in &self.urgent {
            wanted.add(*want, shared.grid.blocks()[want.block].length);
        }
        for (consumer, chunk) in self.mind_wishes() {
            self.want_chunk(&mut wanted, consumer, chunk, true);
        }
        let most = shared.common.limits.in_memory.saturating_mul(2).max(MOST_PLANNED);
        for consumer in self.learning() {
            self.want_all(&mut wanted, consumer, most);
        }
        let (now, mut held_by_some) = (Instant::now(), HashMap::new());
        let mut attendees = lock(&shared.attendees);
        for attendee in attendees.values_mut() {
            let Some(holds) = &attendee.holds else { continue };
            let consumer = &shared.consumers[attendee.consumer];
            if self.learns(consumer.name) {
                continue;
            }
            let name = &shared.names[consumer.name];
            let layout = &name.binding.layout;
            let window = window(&shared.common.limits, self.spool_rests.is_some(), layout.unit());
            let mut room = attendee.room(window);
            let mut brought = 0;
            let first = &mut self.first_open[attendee.consumer];
            while *first < layout.chunk_count() && consumer.availability.has(*first) {
                *first += 1;
            }
            let lacks = |chunk: &u32| !holds.has(*chunk) && !consumer.availability.has(*chunk);
            let open = attendee.may_want(*first, layout.chunk_count());
            let first_ones = open.filter(lacks).take(room as usize);
            let mut behind = *first;
            for chunk in first_ones {
                if wanted.bytes > most {
                    break;
                }
                // What nobody holds takes no room from what is behind it.
                let at = (attendee.consumer, chunk);
                if !self.reach.lonely
                    || *held_by_some.entry(at).or_insert_with(|| self.is_held(at.0, chunk))
                {
                    room -= 1;
                }
                (behind, brought) = (chunk + 1, brought + 1);
                self.want_chunk(&mut wanted, attendee.consumer, chunk, false);
            }
            let held = self.within_reach(attendee.consumer).iter().copied();
            let held = held.filter(|chunk| *chunk >= behind && attendee.passes(*chunk).is_none());
            let held = held.filter(lacks).take(room as usize);
            for chunk in held {
                if wanted.bytes > most {
                    break;
                }
                brought += 1;
                self.want_chunk(&mut wanted, attendee.consumer, chunk, false);
            }
            if brought == 0 {
                let published = || consumer.availability.snapshot().0;
                if let Some(until) = attendee.is_full(published, &name.description, now) {
                    self.wake_at = self.wake_at.min(until);
                }
            }
        }
        wanted
    }

    /// Adds all that is missing of a consumer's name, of which its hashes are to be made, in order.
    fn want_all(&mut self, wanted: &mut Wants, consumer: usize, most: u64) {
        let name = self.shared.consumers[consumer].name;
        // What the spool does not take would stay in memory.
        if !self.spool_takes() {
            return;
        }
        let chunks = self.shared.names[name].binding.layout.chunk_count();
        for chunk in self.next_to_learn(consumer)..chunks {
            if wanted.bytes > most {
                break;
            }
            self.want_chunk(wanted, consumer, chunk, false);
        }
        if wanted.bytes <= most {
            self.want_ends(wanted, consumer);
        }
    }

    /// Adds what is missing of the sources' chunks in which a consumer's name begins and ends: they may reach into other
    /// contents, and only as a whole they verify the bytes in them.
    fn want_ends(&self, wanted: &mut Wants, consumer: usize) {
        let shared = &self.shared;
        let name = shared.consumers[consumer].name;
        let extents = shared.names[name].binding.layout.extents().iter();
        let ends = extents.filter(|extent| extent.length > 0).flat_map(|extent| {
            let run = extent.content_range();
            let first = shared.grid.blocks_in(extent.content, run.start, run.start + 1);
            first.chain(shared.grid.blocks_in(extent.content, run.end - 1, run.end))
        });
        for end in ends.filter(|end| !self.is_vouched(*end, name)) {
            let block = &shared.grid.blocks()[end];
            let connected = self.sources.connected().values().map(|source| source.origin.name);
            let mut verifying = connected.filter(|origin| self.names[*origin].known);
            let of = verifying.find_map(|origin| {
                Some((origin, shared.names[origin].places.chunks(block).next()?))
            });
            let Some(of) = of else { continue };
            for part in shared.grid.parts(&shared.names[of.0].binding.layout, of.1) {
                let Part::Block(block) = part else { continue };
                if matches!(self.blocks[block], State::Missing) {
                    let want = Want { block, consumer, of, soon: false };
                    wanted.add(want, shared.grid.blocks()[block].length);
                }
            }
        }
    }

    /// Adds what is missing of a consumer's chunk.
    fn want_chunk(&self, wanted: &mut Wants, consumer: usize, chunk: u32, soon: bool) {
        let shared = &self.shared;
        let name = shared.consumers[consumer].name;
        let of = (name, chunk);
        for part in shared.grid.parts(&shared.names[name].binding.layout, chunk) {
            let Part::Block(block) = part else { continue };
            match self.blocks[block] {
                State::Missing => {
                    let soon = soon || wanted.chunks.first().is_none_or(|first| *first == of);
                    let want = Want { block, consumer, of, soon };
                    wanted.add(want, shared.grid.blocks()[block].length);
                }
                State::Fetching { .. } => wanted.add_chunk(of),
                State::Here { .. } | State::Stored => {}
            }
        }
    }

    /// Asks a source for a block; `exempt` from the bound of memory or not.
    fn ask(&mut self, want: &Want, exempt: bool) -> Result<(), Refusal> {
        let Want { block: number, consumer, .. } = *want;
        let shared = self.shared.clone();
        let limits = &shared.common.limits;
        let block = shared.grid.blocks()[number];
        let length = u64::from(block.length);
        let own = limits.in_memory.saturating_add(shared.names[want.of.0].binding.layout.unit());
        let room = match exempt {
            true => self.in_memory + length <= own,
            false => shared.common.in_memory.load(Ordering::Relaxed) + length <= limits.in_memory,
        };
        if !room {
            self.wake_at = self.wake_at.min(Instant::now() + WAIT_FOR_MEMORY);
            return Err(Refusal::Bound);
        }
        let id = self.best_source(want)?;
        let Some(source) = self.sources.get_mut(id) else {
            return Err(Refusal::NoSource { held_by_nobody: false });
        };
        let to = &shared.consumers[consumer];
        if let Some(route) = shared.common.routes.between(&source.origin.overlay, &to.overlay)
            && let Some(route) = shared.common.routes.get(route)
            && let Err(again) = route.admit(length, Instant::now())
        {
            return Err(Refusal::Limited(again));
        }
        let Some(offset) = shared.names[source.origin.name].places.offsets(&block).next() else {
            return Err(Refusal::NoSource { held_by_nobody: false });
        };
        source.pace.asked(length, Instant::now());
        source.wasted.asked_for(consumer);
        let (session, origin) = (source.session.clone(), shared.origin_number(&source.origin));
        let gone = source.gone.clone();
        self.blocks[number] = State::Fetching { source: id };
        self.remember_memory(length);
        self.jobs.spawn(async move {
            let result = tokio::select! {
                result = session.fetch(offset..offset + length) => result,
                () = gone.cancelled() => Err(SourceError::Closed("it was given up".into())),
            };
            Done::Fetched { source: id, block: number, origin, consumer, result }
        });
        Ok(())
    }

    /// The source that holds a block and would bring it soonest; one that already brings blocks of the same chunk first.
    fn best_source(&self, want: &Want) -> Result<SourceId, Refusal> {
        let shared = &self.shared;
        let number = want.block;
        let block = &shared.grid.blocks()[number];
        let to = &shared.consumers[want.consumer];
        let (mut held_by_nobody, mut unverifiable) = (true, false);
        let mut soonest = f64::INFINITY;
        let (now, mut limited) = (Instant::now(), None);
        let mut best: Option<(bool, f64, SourceId)> = None;
        for (id, source) in self.sources.connected() {
            let name = &shared.names[source.origin.name];
            let Some(chunk) = name.places.chunks(block).next() else { continue };
            if !shared.may_cross(&source.origin.overlay, to) || !source.session.has(chunk) {
                continue;
            }
            // What nobody could verify is not asked for.
            if !self.names[source.origin.name].known && !self.names[to.name].known {
                unverifiable = true;
                continue;
            }
            held_by_nobody = false;
            let owners = self.owners(source.origin.name, chunk, number);
            if self.solo.contains(&(source.origin.name, chunk))
                && self.only_connected(&owners).is_some_and(|owner| owner != *id)
            {
                continue;
            }
            if source.leaving || self.is_suspected(*id) {
                continue;
            }
            if let Some(until) = shared.blocked_until(&source.origin.overlay, to, now) {
                limited = Some(limited.map_or(until, |known: Instant| known.min(until)));
                continue;
            }
            let expected = source.pace.expected(block.length.into(), source.throughput);
            soonest = soonest.min(expected);
            if !source.has_room(block.length.into()) {
                continue;
            }
            let stranger = !owners.is_empty() && !owners.contains(id);
            let sooner = |best: (bool, f64, SourceId)| {
                let order = stranger.cmp(&best.0).then(expected.total_cmp(&best.1));
                order.then(id.cmp(&best.2)).is_lt()
            };
            if best.is_none_or(sooner) {
                best = Some((stranger, expected, *id));
            }
        }
        // What is wanted at once is not left to a slow source when a quick one will have room soon.
        let too_late = soonest.mul_add(TOO_LATE, TOO_LATE_AT_LEAST);
        best.filter(|(_, expected, _)| !want.soon || *expected <= too_late)
            .map(|(_, _, id)| id)
            .ok_or(match limited {
                Some(again) => Refusal::Limited(again),
                None if unverifiable && held_by_nobody => Refusal::Unverifiable,
                None => Refusal::NoSource { held_by_nobody },
            })
    }

    /// The only one of these that is still connected. A chunk of which several have brought a part cannot come from one
    /// alone any more: it is made whole by anybody, and begins anew when it does not match.
    fn only_connected(&self, owners: &[SourceId]) -> Option<SourceId> {
        let connected = |id: &&SourceId| self.sources.connected().contains_key(id);
        let mut owners = owners.iter().filter(connected);
        let first = *owners.next()?;
        owners.all(|owner| *owner == first).then_some(first)
    }

    /// Whether a peer that was not tried could bring bytes by a route whose limit allows it now.
    fn another_route_is_free(&self) -> bool {
        let (shared, now) = (&self.shared, Instant::now());
        self.sources.untried(now).any(|from| {
            let free = |to: &Consumer| shared.blocked_until(from, to, now).is_none();
            shared.consumers.iter().any(|to| shared.may_cross(from, to) && free(to))
        })
    }

    /// Sources that have brought, or bring, other blocks of a chunk; only the neighbours are looked at.
    fn owners(&self, name: usize, chunk: u32, number: usize) -> Vec<SourceId> {
        let shared = &self.shared;
        let owner = |block: usize| match self.blocks.get(block) {
            Some(State::Fetching { source } | State::Here { source, .. }) => Some(*source),
            _ => None,
        };
        if self.solo.contains(&(name, chunk)) {
            let parts = shared.grid.parts(&shared.names[name].binding.layout, chunk);
            let of_part = |part| match part {
                Part::Block(block) => owner(block),
                Part::Zeros(_) => None,
            };
            return parts.into_iter().filter_map(of_part).collect();
        }
        let places = &shared.names[name].places;
        let near = number.saturating_sub(NEAR)..number.saturating_add(NEAR + 1);
        let blocks = shared.grid.blocks().get(near.start..near.end.min(self.blocks.len()));
        let of_chunk = blocks.unwrap_or_default().iter().zip(near).filter(|(block, number)| {
            owner(*number).is_some() && places.chunks(block).any(|own| own == chunk)
        });
        of_chunk.filter_map(|(_, number)| owner(number)).collect()
    }

    /// Says why nothing moves, in words for the operator.
    fn explain(&mut self, nothing_wanted: bool, lonely: bool, unverifiable: bool) {
        if self.spool_rests.is_some_and(|until| until > Instant::now()) {
            return;
        }
        let learners =
            self.shared.consumers.iter().filter(|to| to.peers.load(Ordering::Relaxed) > 0);
        let text = if let Some(why) =
            learners.map(|to| to.name).find_map(|name| self.unlearnable(name))
        {
            why
        } else if unverifiable {
            "the hashes of its chunks are not known: no source has told them yet"
        } else if nothing_wanted
            || !lonely
            || self.sources.connected().values().any(Source::is_asked)
        {
            ""
        } else if self.sources.waiting() > 0
            && self.sources.waiting() == self.sources.connected().len()
        {
            "the bridge waits in the queues of all connected sources"
        } else if !self.sources.connected().is_empty() {
            "the connected sources do not hold what is wanted next"
        } else if self.sources.usable() > 0 {
            "no source is connected yet"
        } else if self.sources.banned() > 0 {
            "every known source was banned: they sent bytes that fail their hashes, or are the bridge itself"
        } else {
            "no source is known: the other overlay's tracker names no peer"
        };
        self.shared.set_trouble(text);
    }
}

impl Wants {
    fn add(&mut self, want: Want, length: u32) {
        self.add_chunk(want.of);
        self.bytes += u64::from(length);
        self.wants.push(want);
    }

    fn add_chunk(&mut self, chunk: Chunk) {
        // Blocks come chunk by chunk.
        if self.chunks.last() != Some(&chunk) {
            self.chunks.push(chunk);
        }
    }
}

/// How many chunks may be ahead of a peer.
fn window(limits: &Limits, spool_rests: bool, unit: u64) -> u32 {
    // While the spool takes nothing, what is ahead must stay in the memory cache until it is asked for.
    let bytes = if spool_rests {
        limits.read_ahead.min(limits.memory_cache / 2)
    } else {
        limits.read_ahead
    };
    u32::try_from(bytes / unit).unwrap_or(u32::MAX).max(2)
}

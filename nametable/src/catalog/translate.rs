use std::{hint::black_box, ops::ControlFlow};

use p2pbridge_proto::{Evidence, Name, Scheme};

use super::{
    Catalog,
    packed::{Packed, evidence_of},
};

/// Names that are looked up at once: of so many, the waits for memory overlap.
const GROUP: usize = 64;

/// Bytes that come from memory at once.
const LINE: usize = 64;

/// What is known of a name, read where it lies.
pub(crate) struct Found<'a> {
    packed: Packed<'a>,
    wanted: u32,
}

impl Catalog {
    /// Looks many names up at once. For each that is known, `out` gets its place in `names` and what is found, in order. It is called
    /// while the catalog is locked: it must be quick, and must not ask the catalog.
    pub(crate) fn translate(
        &self,
        names: &[Name],
        to: &[Scheme],
        out: &mut impl FnMut(usize, Found<'_>),
    ) {
        let wanted = to.iter().fold(0, |bits, scheme| bits | bit(*scheme as u8));
        for (group, start) in names.chunks(GROUP).zip((0..).step_by(GROUP)) {
            self.translate_group(group, wanted, &mut |at, found| out(start + at, found));
        }
    }

    /// Each stage asks memory for something of every name, and only the next one needs it.
    fn translate_group(&self, names: &[Name], wanted: u32, out: &mut impl FnMut(usize, Found<'_>)) {
        let mut slots = [None; GROUP];
        let mut rows: [&[u8]; GROUP] = [&[]; GROUP];
        let inner = self.read();
        for (slot, name) in slots.iter_mut().zip(names) {
            *slot = inner.by_name.guess(self.marker.name(name));
        }
        for (row, slot) in rows.iter_mut().zip(slots) {
            *row = slot.and_then(|slot| inner.slots.get(slot)).unwrap_or_default();
        }
        let lines = || (0..3).map(|line| line * LINE);
        let touched = rows.iter().flat_map(|row| lines().filter_map(|at| row.get(at)));
        black_box(touched.fold(0u8, |sum, byte| sum ^ byte));
        for (at, (name, row)) in names.iter().zip(rows).enumerate() {
            let mut packed = Packed(row);
            if !packed.has(name) {
                // Nothing, or two marks are alike.
                let slot = slots.get(at).copied().flatten();
                let slot = slot.and_then(|_| inner.slot_of(self.marker.name(name), name));
                let Some(bytes) = slot.and_then(|slot| inner.slots.get(slot)) else { continue };
                packed = Packed(bytes);
            }
            out(at, Found { packed, wanted });
        }
    }
}

impl Found<'_> {
    /// Its length, if it is known.
    pub(crate) fn length(&self) -> Option<u64> {
        self.packed.length()
    }

    /// Appends its names of the schemes that were asked for, the one that was looked up among them.
    #[inline]
    pub(crate) fn names(&self, out: &mut Vec<(Name, Evidence)>) {
        self.packed.each(|evidence, scheme, digest| {
            if self.wanted & bit(scheme) != 0
                && let Some(evidence) = evidence_of(evidence)
                && let Some(scheme) = Scheme::from_number(scheme)
                && let Ok(name) = Name::new(scheme, digest)
            {
                out.push((name, evidence));
            }
            ControlFlow::Continue(())
        });
    }
}

fn bit(scheme: u8) -> u32 {
    1u32.checked_shl(scheme.into()).unwrap_or_default()
}

/// Slots of one piece: a piece is made whole, and never moved, so that growing takes no time.
const PIECE: usize = 4_096;

/// Packed contents, each in a slot of its own that it keeps until it is removed.
pub(super) struct Slots {
    pieces: Vec<Box<[Slot]>>,
    free: Vec<u32>,
    /// Slots that were ever given.
    end: u32,
    /// Bytes of memory of the packed contents.
    bytes: usize,
}

type Slot = Option<Box<[u8]>>;

impl Slots {
    pub(super) fn new() -> Self {
        Self { pieces: Vec::new(), free: Vec::new(), end: 0, bytes: 0 }
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&[u8]> {
        let slot = slot as usize;
        self.pieces.get(slot / PIECE)?.get(slot % PIECE)?.as_deref()
    }

    /// Puts bytes in a slot that [`Self::take`] gave, in the place of what was there, which it gives back.
    pub(super) fn set(&mut self, slot: u32, bytes: Option<Box<[u8]>>) -> Option<Box<[u8]>> {
        let slot = slot as usize;
        let place = self.pieces.get_mut(slot / PIECE)?.get_mut(slot % PIECE)?;
        let old = std::mem::replace(place, bytes);
        self.bytes += place.as_deref().map_or(0, allocated);
        self.bytes -= old.as_deref().map_or(0, allocated);
        old
    }

    /// An empty slot; `None` when there are 2^32.
    pub(super) fn take(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        let slot = self.end;
        self.end = slot.checked_add(1)?;
        if slot as usize == self.pieces.len() * PIECE {
            self.pieces.push((0..PIECE).map(|_| None).collect());
        }
        Some(slot)
    }

    /// Takes a slot back, and gives what was in it.
    pub(super) fn free(&mut self, slot: u32) -> Option<Box<[u8]>> {
        let old = self.set(slot, None)?;
        self.free.push(slot);
        Some(old)
    }

    /// Slots that were ever given, whether they are in use or not.
    pub(super) fn end(&self) -> u32 {
        self.end
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        let slots = self.pieces.len() * PIECE * size_of::<Slot>();
        self.bytes + slots + self.free.capacity() * size_of::<u32>()
    }
}

/// What an allocator needs for bytes: a word of its own, and steps of 16.
fn allocated(bytes: &[u8]) -> usize {
    (bytes.len() + 8).next_multiple_of(16).max(32)
}

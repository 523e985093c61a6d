/// Bounds of the relay.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes that are fetched ahead of the peer that is furthest on.
    pub read_ahead: u64,
    /// Bytes of the block cache.
    pub memory_cache: u64,
    /// Bytes of all pools together that are asked for, or not yet stored.
    pub in_memory: u64,
    /// Peers that a pool downloads from at once.
    pub sources: usize,
    /// Bytes asked of one source at once.
    pub per_source: u64,
}

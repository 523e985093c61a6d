//! The bounded cache of verified blocks in memory, in front of the spool.

use bytes::Bytes;
use p2pbridge_proto::ContentId;
use quick_cache::{Weighter, sync::Cache};

/// A block's content and first byte.
type Key = (ContentId, u64);

/// Verified blocks, the least useful dropped first when the bound is reached. Shared by all pools.
pub(crate) struct BlockCache(Cache<Key, Bytes, Weight>);

#[derive(Clone)]
struct Weight;

impl Weighter<Key, Bytes> for Weight {
    fn weight(&self, _: &Key, bytes: &Bytes) -> u64 {
        bytes.len() as u64
    }
}

impl BlockCache {
    /// An empty cache for so many bytes.
    pub(crate) fn new(bound: u64) -> Self {
        // The number of blocks is only an estimate, by which the cache sizes its tables.
        let blocks = usize::try_from(bound / (64 << 10)).unwrap_or(usize::MAX).max(64);
        Self(Cache::with_weighter(blocks, bound, Weight))
    }

    /// A block, if it is there.
    pub(crate) fn get(&self, content: ContentId, offset: u64) -> Option<Bytes> {
        self.0.get(&(content, offset))
    }

    /// Keeps a verified block for a while.
    pub(crate) fn put(&self, content: ContentId, offset: u64, bytes: Bytes) {
        self.0.insert((content, offset), bytes);
    }
}

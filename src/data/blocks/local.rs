//! Pack files on the local disk: the source of uploads, afterwards a cache.

use super::{Blocks, Error, PackId, Result};
use crate::meta::row::PackState;
use bytes::Bytes;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

/// What the cache on disk holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Bytes that the store does not have yet and that are therefore kept.
    pub pinned_bytes: u64,
    /// Bytes that could be fetched again.
    pub clean_bytes: u64,
    /// Packs that lie here as a whole.
    pub packs: u64,
    /// Bytes fetched from the store since the start.
    pub fetched_bytes: u64,
}

impl Blocks {
    /// Reads from a pack's local file, if there is one.
    pub(super) fn read_local(&self, pack: PackId, range: Range<u64>) -> Result<Option<Bytes>> {
        let Some(file) = self.table.lock().file(pack) else { return Ok(None) };
        let mut record = vec![0; (range.end - range.start) as usize];
        match file.read_exact_at(&mut record, range.start) {
            Ok(()) => Ok(Some(record.into())),
            // Shorter than it should be: damaged, and possibly whole in the store.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(crate::data::pack::Error::Corrupt { pack, part: "local file" }.into())
            }
            Err(source) => {
                let path = self.policy.cache_dir.join("packs").join(pack.to_string());
                Err(Error::Cache { path, source })
            }
        }
    }

    /// Throws away what the cache has of a pack, if the store has it too; says
    /// whether there was anything.
    pub(super) fn drop_local_copy(&self, pack: PackId) -> bool {
        let had_parts = self.parts.forget(pack);
        self.table.lock().evict(pack) || had_parts
    }

    /// Drops cached packs, those not used the longest first, until the cache is
    /// within `bytes_max`.
    pub fn shrink_cache(&self, bytes_max: u64) {
        self.table.lock().shrink(bytes_max);
        self.parts.shrink(bytes_max);
    }

    /// What the cache on disk holds.
    #[must_use]
    pub fn cache_stats(&self) -> CacheStats {
        let mut stats = CacheStats {
            clean_bytes: self.parts.bytes(),
            fetched_bytes: self.parts.fetched_bytes.load(Ordering::Relaxed),
            ..CacheStats::default()
        };
        let table = self.table.lock();
        for (row, is_local) in table.rows() {
            stats.packs += u64::from(is_local);
            match row.state {
                PackState::Open | PackState::Closed => stats.pinned_bytes += row.info.size,
                _ if is_local => stats.clean_bytes += row.info.size,
                _ => {}
            }
        }
        stats
    }
}

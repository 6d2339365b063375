//! Pack files on the local disk: the source of uploads, afterwards a cache.

use super::table::Local;
use super::{Blocks, Error, PackId, Result};
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
                let path = self.policy.packs_dir().join(pack.to_string());
                Err(Error::Cache { path, source })
            }
        }
    }

    /// Moves the files of packs that are announced from the unsent ones to the
    /// cache.
    pub(super) fn settle_files(&self) {
        let announced = self.table.lock().to_be_moved();
        for info in announced {
            let fits = info.size <= self.policy.cache_size_max;
            if fits && self.table.lock().move_to_cache(info.pack) {
                continue;
            }
            // On another file system. A local store is as good as a copy.
            let local = match fits && !self.store.capabilities().is_local {
                true if self.copy_to_cache(info.pack).is_ok() => Local::Cached,
                _ => Local::No,
            };
            self.table.lock().remove_unsent(info.pack, local);
        }
    }

    fn copy_to_cache(&self, pack: PackId) -> std::io::Result<()> {
        let name = pack.to_string();
        let (from, to) = (self.policy.unsent_dir.join(&name), self.policy.packs_dir().join(&name));
        std::fs::copy(from, &to).map(drop).inspect_err(|_| {
            // A copy is dispensable, half of one is in the way.
            let _ = std::fs::remove_file(&to);
        })
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
        stats.pinned_bytes = table.unsent_bytes();
        for (row, local) in table.rows() {
            stats.packs += u64::from(local != Local::No);
            stats.clean_bytes += if local == Local::Cached { row.info.size } else { 0 };
        }
        stats
    }
}

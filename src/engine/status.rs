//! What an engine tells about itself, and what it does when asked.

use super::{Engine, Result};
use crate::meta::db::Table;
use crate::meta::row::PackState;
use serde::Serialize;
use std::sync::atomic::Ordering;

/// Tells how far a long operation is.
pub trait Progress: Send + Sync {
    /// A step begins; `total` is in the unit that `advance` counts.
    fn begin(&self, what: &str, total: Option<u64>);
    /// `n` more are done.
    fn advance(&self, n: u64);
    /// The step is over.
    fn end(&self);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
}

/// What the engine says about itself.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Where the store is.
    pub store: String,
    /// `ok`, or what is wrong.
    pub health: String,
    /// Bytes in memory that no commit has saved yet.
    pub unsaved_bytes: u64,
    /// Bytes saved here that the store does not have yet.
    pub dirty_bytes: u64,
    /// Packs waiting for upload.
    pub upload_queue: u64,
    /// Bytes that files take, before deduplication and compression.
    pub used_bytes: u64,
    /// Files, directories and everything else that has a name.
    pub inodes: u64,
    /// The cache.
    pub cache: CacheStats,
    /// Why the last upload failed, if it did.
    pub last_error: Option<String>,
}

/// What the caches hold and did.
#[derive(Clone, Debug, Serialize)]
pub struct CacheStats {
    /// Bytes on disk that the store does not have yet.
    pub pinned_bytes: u64,
    /// Bytes on disk that could be fetched again.
    pub clean_bytes: u64,
    /// Packs on disk as a whole.
    pub packs: u64,
    /// Bytes of open blocks in memory.
    pub memory_bytes: u64,
    /// Bytes fetched from the store since the start.
    pub fetched_bytes: u64,
    /// Blocks sealed since the start.
    pub blocks_sealed: u64,
    /// Blocks that were there already.
    pub blocks_deduplicated: u64,
    /// Blocks opened since the start.
    pub blocks_opened: u64,
    /// Blocks found open in memory.
    pub memory_hits: u64,
}

impl Engine {
    /// What is going on.
    #[must_use]
    pub fn status(&self) -> Status {
        let inner = &self.inner;
        let (unsaved_bytes, usage) = {
            let state = inner.state.lock();
            (state.dirty_bytes, state.usage)
        };
        let last_error = inner.last_error.lock().clone();
        let health = match &last_error {
            _ if inner.is_broken.load(Ordering::Acquire) => {
                "a sync of the local disk failed: read-only until the next start".to_owned()
            }
            Some(_) => "not everything is uploaded; it is tried again".to_owned(),
            None => "ok".to_owned(),
        };
        Status {
            store: inner.store.location(),
            health,
            unsaved_bytes,
            dirty_bytes: inner.blocks.unsent_bytes() + self.unsent_log_bytes(),
            upload_queue: inner.blocks.packs_in(PackState::Closed).len() as u64,
            used_bytes: usage.bytes + unsaved_bytes,
            inodes: usage.inodes,
            cache: self.cache_stats(),
            last_error,
        }
    }

    /// Bytes of ops that the store has not confirmed.
    fn unsent_log_bytes(&self) -> u64 {
        let bytes = self.inner.db.reader().and_then(|db| {
            Ok(db.bytes_in(Table::Outbox)?
                + db.bytes_in(Table::Sending)?
                + db.bytes_in(Table::Patch)?)
        });
        bytes.unwrap_or_else(|error| {
            log::warn!("the length of the outbox is unknown: {error}");
            0
        })
    }

    /// What the caches hold and did.
    #[must_use]
    pub fn cache_stats(&self) -> CacheStats {
        let blocks = &self.inner.blocks;
        let disk = blocks.cache_stats();
        let counter = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats {
            pinned_bytes: disk.pinned_bytes,
            clean_bytes: disk.clean_bytes,
            packs: disk.packs,
            memory_bytes: blocks.memory_bytes(),
            fetched_bytes: disk.fetched_bytes,
            blocks_sealed: counter(&blocks.counters.sealed),
            blocks_deduplicated: counter(&blocks.counters.deduplicated),
            blocks_opened: counter(&blocks.counters.opened),
            memory_hits: counter(&blocks.counters.hits),
        }
    }

    /// Forgets what can be fetched again.
    pub fn clear_cache(&self) -> Result<()> {
        self.inner.blocks.clear_memory();
        self.inner.blocks.shrink_cache(0);
        Ok(())
    }

    /// Starts saving and uploading in the background. Needs a runtime around it,
    /// or the one given.
    pub fn start(&self, runtime: tokio::runtime::Handle) {
        self.inner.background.start(&self.inner, runtime);
    }

    /// Makes everything so far survive a crash of this machine.
    pub async fn commit(&self) -> vfs::Result<()> {
        self.inner.commit().await
    }

    /// Waits until everything so far is in the store.
    pub async fn sync(&self) -> Result<()> {
        let unmerged = self.inner.upload().await?;
        unmerged.into_iter().next().map_or(Ok(()), Err)
    }

    /// Saves everything, uploads what the store takes, and ends the background
    /// work. Fails if saving here fails; what could not be uploaded is sent by
    /// the next run.
    pub async fn close(&self) -> Result<()> {
        self.inner.background.stop();
        if self.inner.settings.read_only {
            return Ok(());
        }
        match self.sync().await {
            Err(error) if error.kind() == vfs::ErrorKind::Unavailable => {
                log::warn!("not everything is uploaded, the next run goes on: {error}");
                Ok(())
            }
            other => other,
        }
    }
}

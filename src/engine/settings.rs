//! What governs an engine.

use crate::data::blocks::Compression;
use std::path::PathBuf;
use vfs::Stability;

/// When reads write access times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtimePolicy {
    /// When the last one is not newer than the last change, or a day old.
    #[default]
    Relatime,
    /// Never.
    Noatime,
}

/// What governs an engine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where this machine's state lies: identity, anchors, database.
    pub state_dir: PathBuf,
    /// What other machines call this one, at most 64 bytes.
    pub label: String,
    /// Where the cache lies.
    pub cache_dir: PathBuf,
    /// Bytes of ciphertext cached on disk at most, unsent data aside.
    pub cache_size_max: u64,
    /// Bytes of memory for open blocks and unsaved data together.
    pub memory_max: u64,
    /// Bytes in a pack at most.
    pub pack_size_max: u64,
    /// Compression of blocks.
    pub compression: Compression,
    /// Whether equal blocks are kept once.
    pub dedup: bool,
    /// What `fsync` waits for.
    pub durability: Stability,
    /// When reads write access times.
    pub atime: AtimePolicy,
    /// Bytes the files may take, before deduplication and compression.
    pub quota_bytes: Option<u64>,
    /// Read-ahead windows of 1 MiB for sequential reads; 0 turns it off.
    pub prefetch_count: u32,
    /// Nothing is changed, here or in the store.
    pub read_only: bool,
    /// Packs uploaded at the same time.
    pub concurrent_uploads_max: u32,
    /// Requests for data at the same time.
    pub concurrent_downloads_max: u32,
    /// Bytes not yet in the store at which writers wait.
    pub dirty_max: u64,
    /// How long changes may wait for company before they are uploaded,
    /// milliseconds.
    pub upload_delay_ms: u64,
    /// Bytes of ops after which a checkpoint is written at the earliest; a large
    /// state is written again only when the log has grown by as much.
    pub checkpoint_len_min: u64,
}

impl Settings {
    /// The defaults, with everything below `dir`.
    #[must_use]
    pub fn below(dir: &std::path::Path) -> Self {
        Self {
            state_dir: dir.join("state"),
            label: "unnamed".to_owned(),
            cache_dir: dir.join("cache"),
            cache_size_max: 10 << 30,
            memory_max: 256 << 20,
            pack_size_max: 50 << 20,
            compression: Compression::Lz4,
            dedup: true,
            durability: Stability::Journaled,
            atime: AtimePolicy::Relatime,
            quota_bytes: None,
            prefetch_count: 3,
            read_only: false,
            concurrent_uploads_max: 3,
            concurrent_downloads_max: 5,
            dirty_max: 5 << 29,
            upload_delay_ms: 30_000,
            checkpoint_len_min: 1 << 20,
        }
    }

    /// Bytes of small writes, kept beside the files they belong to, at which a commit
    /// merges all of them.
    #[must_use]
    pub fn patches_max(&self) -> u64 {
        (self.memory_max / 8).clamp(4 << 20, 32 << 20)
    }

    /// Unsaved bytes at which writers save before they go on.
    #[must_use]
    pub fn unsaved_max(&self) -> u64 {
        (self.memory_max / 4).clamp(8 << 20, 64 << 20)
    }
}

//! STUB, replaced at merge: the engine's interface as the command line uses it.
//!
//! Every operation answers [`Error::NotBuilt`].

use crate::cli::pending::{store, vault};
use crate::env::Env;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;

/// How blocks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4.
    Lz4,
    /// zstd with this level.
    Zstd(i32),
}

/// When reading changes the access time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtimePolicy {
    /// When it would otherwise be too old.
    Relatime,
    /// Never.
    Noatime,
}

/// What an engine is opened with.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "a stub")]
pub struct Settings {
    pub state_dir: PathBuf,
    pub cache_dir: PathBuf,
    pub cache_size_max: u64,
    pub memory_max: u64,
    pub pack_size_max: u64,
    pub compression: Compression,
    pub dedup: bool,
    pub durability: vfs::Stability,
    pub atime: AtimePolicy,
    pub quota_bytes: Option<u64>,
    pub prefetch_count: u32,
    pub read_only: bool,
    pub concurrent_uploads_max: u32,
    pub concurrent_downloads_max: u32,
    pub dirty_max: u64,
}

/// What a new vault is made with.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "a stub")]
pub struct Creation {
    pub block_size: u32,
    pub label: String,
}

/// What can be told about a vault.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "a stub")]
pub struct VaultInfo {
    pub vault_id: [u8; 16],
}

/// Why the engine did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no engine in this branch.
    #[error("this build has no engine yet")]
    NotBuilt,
}

/// Tells how far a long operation is.
pub trait Progress: Send + Sync {
    /// A step begins; `total` is in the unit that `advance` counts.
    fn begin(&self, what: &str, total: Option<u64>);
    /// `n` more are done.
    fn advance(&self, n: u64);
    /// The step is over.
    fn end(&self);
}

/// A mounted file system's inside.
#[derive(Clone, Debug)]
pub struct Engine {}

/// What the engine says about itself.
#[derive(Clone, Debug, Serialize)]
pub struct Status {}

/// What the cache holds.
#[derive(Clone, Debug, Serialize)]
pub struct CacheStats {}

/// What a check found.
#[derive(Clone, Debug, Serialize)]
pub struct FsckReport {
    /// What is wrong; empty if nothing is.
    pub problems: Vec<String>,
}

/// Makes a vault.
pub async fn create_vault(
    _store: Arc<dyn store::BlobStore>,
    _credential: &vault::Credential,
    _kdf: vault::KdfParams,
    _creation: Creation,
    _env: &Env,
) -> Result<(VaultInfo, vault::RecoveryCode), Error> {
    Err(Error::NotBuilt)
}

#[expect(missing_docs, reason = "a stub")]
impl Engine {
    pub async fn open(
        _store: Arc<dyn store::BlobStore>,
        _credential: &vault::Credential,
        _settings: Settings,
        _env: Env,
        _progress: &dyn Progress,
    ) -> Result<Self, Error> {
        Err(Error::NotBuilt)
    }

    pub fn start(&self) {}

    pub async fn sync(&self) -> Result<(), Error> {
        Err(Error::NotBuilt)
    }

    pub async fn close(&self) -> Result<(), Error> {
        Err(Error::NotBuilt)
    }

    #[must_use]
    pub fn status(&self) -> Status {
        Status {}
    }

    #[must_use]
    pub fn cache_stats(&self) -> CacheStats {
        CacheStats {}
    }

    pub fn clear_cache(&self) -> Result<(), Error> {
        Err(Error::NotBuilt)
    }

    pub async fn fsck(&self, _progress: &dyn Progress) -> Result<FsckReport, Error> {
        Err(Error::NotBuilt)
    }
}

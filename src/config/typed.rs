//! The configuration as types.
//!
//! Built from values that were already checked one by one; what is checked here is
//! what several keys mean together. No field has a default of its own: the table of
//! keys has them, and a field that it does not know fails to load.

use super::{Error, Result, Setting, file};
use serde::Deserialize;
use serde_json::Value;
use std::fmt;
use std::path::PathBuf;

/// Text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(********)")
    }
}

/// A complete configuration. The keys are described where they are listed, in
/// [`super::KEYS`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every field is a key, and `KEYS` describes the keys")]
pub struct Config {
    pub store: Option<String>,
    pub data_dir: Option<PathBuf>,
    pub namespace: String,
    pub durability: Durability,
    pub quota_bytes: Option<u64>,
    pub telegram: Telegram,
    pub encryption: Encryption,
    pub cache: Cache,
    pub chunk: Chunk,
    pub mount: Mount,
    pub transfer: Transfer,
    pub versioning: Versioning,
    pub distribution: Distribution,
}

/// `telegram.*`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every field is a key, and `KEYS` describes the keys")]
pub struct Telegram {
    pub api_id: Option<u32>,
    pub api_hash: Option<Secret>,
    pub session_file: Option<PathBuf>,
    pub max_concurrent_uploads: u32,
    pub max_concurrent_downloads: u32,
}

/// `encryption.*`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every field is a key, and `KEYS` describes the keys")]
pub struct Encryption {
    pub argon2_memory_kib: u32,
    pub argon2_iterations: u32,
    pub argon2_parallelism: u32,
}

/// `cache.*`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every field is a key, and `KEYS` describes the keys")]
pub struct Cache {
    pub max_size: u64,
    pub cache_dir: Option<PathBuf>,
    pub prefetch_enabled: bool,
    pub prefetch_count: u32,
    pub memory_max: u64,
    pub dirty_max: u64,
}

/// `chunk.*`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every field is a key, and `KEYS` describes the keys")]
pub struct Chunk {
    pub chunk_size: u64,
    pub block_size: u32,
    pub compression_enabled: bool,
    pub compression: Codec,
    pub zstd_level: i32,
    pub dedup_enabled: bool,
    pub chunker: Chunker,
    pub padding: Padding,
}

/// `mount.*`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every field is a key, and `KEYS` describes the keys")]
pub struct Mount {
    pub allow_other: bool,
    pub atime: AtimeChoice,
    pub threads: u32,
    pub writeback_cache: bool,
    pub via: MountVia,
}

/// `transfer.*`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every field is a key, and `KEYS` describes the keys")]
pub struct Transfer {
    pub concurrent_uploads_max: u32,
    pub concurrent_downloads_max: u32,
}

/// `versioning.*`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every field is a key, and `KEYS` describes the keys")]
pub struct Versioning {
    pub enabled: bool,
    pub max_versions: u32,
}

/// `distribution.*`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every field is a key, and `KEYS` describes the keys")]
pub struct Distribution {
    pub mode: DistributionMode,
    pub cluster_id: Option<String>,
    pub master_replica: MasterReplica,
    pub distributed: Distributed,
}

/// `distribution.master_replica.*`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every field is a key, and `KEYS` describes the keys")]
pub struct MasterReplica {
    pub role: ReplicaRole,
    pub master_id: Option<String>,
    pub sync_interval_secs: u64,
}

/// `distribution.distributed.*`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every field is a key, and `KEYS` describes the keys")]
pub struct Distributed {
    pub sync_interval_ms: u64,
    pub conflict_resolution: ConflictResolution,
}

/// What `fsync` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// This machine's disk.
    Journaled,
    /// The store.
    Uploaded,
}

/// How blocks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Codec {
    /// Fast.
    Lz4,
    /// Small.
    Zstd,
    /// Not at all.
    None,
}

/// How files are cut into blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chunker {
    /// At multiples of the block size.
    Fixed,
    /// Where the content says.
    Cdc,
}

/// How the sizes of packs are blurred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Padding {
    /// To a few sizes per power of two.
    Padme,
    /// Not at all.
    None,
}

/// When reading a file changes its access time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AtimeChoice {
    /// When it would otherwise be older than the last change or than a day.
    Relatime,
    /// Never.
    Noatime,
}

/// How to mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountVia {
    /// FUSE where it works, NFS elsewhere.
    Auto,
    /// FUSE.
    Fuse,
    /// NFS.
    Nfs,
}

/// Who may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DistributionMode {
    /// The only machine.
    Standalone,
    /// One of several.
    MasterReplica,
    /// All of them.
    Distributed,
}

/// What this machine is in a master-replica cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplicaRole {
    /// The one that writes.
    Master,
    /// One that follows.
    Replica,
}

/// Which of two concurrent edits keeps the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConflictResolution {
    /// The later one.
    LastWriteWins,
    /// The older one; names stay where they are.
    KeepBoth,
    /// Neither, until somebody decides.
    Manual,
}

impl Config {
    pub(super) fn from_settings(settings: &[Setting]) -> Result<Self> {
        let mut root = Value::Object(serde_json::Map::new());
        for setting in settings {
            file::insert(&mut root, setting.key.name, setting.value.clone())
                .ok_or_else(|| Error::Schema { detail: setting.key.name.to_owned() })?;
        }
        serde_json::from_value(root).map_err(|e| Error::Schema { detail: e.to_string() })
    }

    /// Checks what keys mean together.
    pub(super) fn check(&self) -> Result<()> {
        if self.chunk.chunker == Chunker::Cdc {
            let (key, value, instead) = ("chunk.chunker", "cdc", "fixed");
            return Err(Error::NotAvailable { key, value, instead });
        }
        if self.encryption.argon2_memory_kib < 8 * self.encryption.argon2_parallelism {
            return Err(Error::Conflict {
                first: "encryption.argon2_memory_kib",
                second: "encryption.argon2_parallelism",
                detail: "must be at least 8 KiB for each lane".to_owned(),
            });
        }
        let is_cluster = self.distribution.mode != DistributionMode::Standalone;
        if is_cluster && self.distribution.cluster_id.is_none() {
            let reason = "distribution.mode names a cluster, so the cluster needs an id";
            return Err(Error::Missing { key: "distribution.cluster_id", reason });
        }
        Ok(())
    }
}

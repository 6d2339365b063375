//! Every configuration key: type, range, default and what it is for.
//!
//! This table is the schema. The file reader, the environment, the flags, the
//! messages and `config show` all work from it; `typed` only gives its values types.

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Bool,
    /// A whole number; the key's text names the unit.
    Count {
        /// Smallest allowed.
        min: u64,
        /// Largest allowed.
        max: u64,
    },
    /// Bytes, as a number or with a unit.
    Size {
        /// Smallest allowed.
        min: u64,
        /// Largest allowed.
        max: u64,
        /// Whether only powers of two are allowed.
        is_power_of_two: bool,
    },
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// Any text.
    Text,
    /// Text that is never shown.
    Secret,
    /// A path: absolute, or below the home directory with `~/`.
    Path,
}

/// Whether a key does something in this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It works.
    Now,
    /// It is read and checked, and does nothing yet.
    Later {
        /// What it will belong to.
        feature: &'static str,
        /// A value for which nothing is missing.
        unless: Option<&'static str>,
    },
}

/// One configuration key.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// Dotted name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Its default as one would type it; `None` if it is unset by default.
    pub default: Option<&'static str>,
    /// What it is for, with the unit.
    pub help: &'static str,
    /// Whether it works in this build.
    pub effect: Effect,
}

impl Key {
    /// The environment variable that sets this key.
    #[must_use]
    pub fn environment_name(&self) -> String {
        format!("{}{}", super::ENVIRONMENT_PREFIX, self.name.replace('.', "_").to_uppercase())
    }

    const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        Self { name, kind, default: Some(default), help, effect: Effect::Now }
    }

    const fn unset(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, kind, default: None, help, effect: Effect::Now }
    }

    const fn later(self, feature: &'static str) -> Self {
        Self { effect: Effect::Later { feature, unless: None }, ..self }
    }

    const fn later_unless(self, feature: &'static str, harmless: &'static str) -> Self {
        Self { effect: Effect::Later { feature, unless: Some(harmless) }, ..self }
    }
}

/// The key with this dotted name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

const fn count(min: u64, max: u64) -> Kind {
    Kind::Count { min, max }
}

const fn size(min: u64, max: u64) -> Kind {
    Kind::Size { min, max, is_power_of_two: false }
}

const TELEGRAM: &str = "the Telegram store";
const VERSIONS: &str = "file versions";
const CLUSTER: &str = "several machines on one namespace";

/// Every key, in the order `config show` prints them.
pub const KEYS: &[Key] = &[
    Key::unset("store", Kind::Text, "URL of the store, as file:///srv/vault; set by init"),
    Key::unset(
        "data_dir",
        Kind::Path,
        "directory for local state and cache; unset: the XDG directories below the home directory",
    ),
    Key::new("namespace", Kind::Text, "default", "file system within the vault")
        .later_unless("several namespaces in one vault", "default"),
    Key::new(
        "durability",
        Kind::Choice(&["journaled", "uploaded"]),
        "journaled",
        "what fsync waits for: this machine's disk, or the store",
    ),
    Key::unset(
        "quota_bytes",
        size(MIB, u64::MAX),
        "largest sum of file sizes, bytes; writes beyond it fail; unset: no limit",
    ),
    Key::unset("telegram.api_id", count(1, i32::MAX as u64), "API id from my.telegram.org")
        .later(TELEGRAM),
    Key::unset("telegram.api_hash", Kind::Secret, "API hash from my.telegram.org").later(TELEGRAM),
    Key::unset("telegram.session_file", Kind::Path, "where the sealed login is kept")
        .later(TELEGRAM),
    Key::new("telegram.max_concurrent_uploads", count(1, 16), "3", "uploads at a time")
        .later(TELEGRAM),
    Key::new("telegram.max_concurrent_downloads", count(1, 32), "5", "downloads at a time")
        .later(TELEGRAM),
    Key::new(
        "encryption.argon2_memory_kib",
        count(19 * KIB, MIB),
        "65536",
        "memory to derive a key from a new password, KiB",
    ),
    Key::new(
        "encryption.argon2_iterations",
        count(2, 16),
        "3",
        "passes to derive a key from a new password",
    ),
    Key::new(
        "encryption.argon2_parallelism",
        count(1, 16),
        "4",
        "lanes to derive a key from a new password",
    ),
    Key::new(
        "cache.max_size",
        size(64 * MIB, 1024 * TIB),
        "10 GiB",
        "most the cache keeps on disk, bytes; data that is not uploaded yet does not count",
    ),
    Key::unset(
        "cache.cache_dir",
        Kind::Path,
        "directory of the cache; unset: ~/.cache/tgcryptfs, or data_dir",
    ),
    Key::new("cache.prefetch_enabled", Kind::Bool, "true", "read ahead of sequential readers"),
    Key::new("cache.prefetch_count", count(0, 64), "3", "packs to read ahead"),
    Key::new(
        "cache.memory_max",
        size(32 * MIB, 64 * GIB),
        "256 MiB",
        "memory for caches, dirty data and queues together, bytes",
    ),
    Key::new(
        "cache.dirty_max",
        size(64 * MIB, 64 * TIB),
        "4 GiB",
        "data on disk that is not uploaded yet, bytes; beyond it writers wait",
    ),
    Key::new(
        "chunk.chunk_size",
        size(MIB, GIB),
        "50 MiB",
        "largest pack, the unit of upload, bytes",
    ),
    Key::new(
        "chunk.block_size",
        Kind::Size { min: 64 * KIB, max: 4 * MIB, is_power_of_two: true },
        "128 KiB",
        "unit of deduplication and encryption, bytes; fixed when the vault is made",
    ),
    Key::new("chunk.compression_enabled", Kind::Bool, "true", "compress blocks where it helps"),
    Key::new(
        "chunk.compression",
        Kind::Choice(&["lz4", "zstd", "none"]),
        "lz4",
        "how blocks are compressed",
    ),
    Key::new("chunk.zstd_level", count(1, 19), "3", "effort of zstd"),
    Key::new("chunk.dedup_enabled", Kind::Bool, "true", "store equal blocks once"),
    Key::new(
        "chunk.chunker",
        Kind::Choice(&["fixed", "cdc"]),
        "fixed",
        "how files are cut into blocks; cdc is not available yet",
    ),
    Key::new(
        "chunk.padding",
        Kind::Choice(&["padme", "none"]),
        "padme",
        "how the sizes of packs are blurred",
    )
    .later_unless("a choice of padding", "padme"),
    Key::new("mount.allow_other", Kind::Bool, "false", "let other users into the mount"),
    Key::new(
        "mount.atime",
        Kind::Choice(&["relatime", "noatime"]),
        "relatime",
        "when reading a file changes its access time",
    ),
    Key::new("mount.threads", count(1, 64), "4", "threads that answer the kernel"),
    Key::new(
        "mount.writeback_cache",
        Kind::Bool,
        "true",
        "let the kernel gather small writes before it hands them over",
    ),
    Key::new(
        "mount.via",
        Kind::Choice(&["auto", "fuse", "nfs"]),
        "auto",
        "how to mount: auto takes FUSE where it works, and NFS elsewhere",
    ),
    Key::new("transfer.concurrent_uploads_max", count(1, 64), "4", "uploads at a time"),
    Key::new("transfer.concurrent_downloads_max", count(1, 128), "8", "downloads at a time"),
    Key::new("versioning.enabled", Kind::Bool, "true", "keep earlier contents of files")
        .later(VERSIONS),
    Key::new("versioning.max_versions", count(1, 10_000), "10", "versions to keep of each file")
        .later(VERSIONS),
    Key::new(
        "distribution.mode",
        Kind::Choice(&["standalone", "master-replica", "distributed"]),
        "standalone",
        "who may write: one machine, one of several, or all",
    )
    .later_unless(CLUSTER, "standalone"),
    Key::unset("distribution.cluster_id", Kind::Text, "name the machines of a cluster share")
        .later(CLUSTER),
    Key::new(
        "distribution.master_replica.role",
        Kind::Choice(&["master", "replica"]),
        "replica",
        "what this machine is",
    )
    .later(CLUSTER),
    Key::unset("distribution.master_replica.master_id", Kind::Text, "name of the master")
        .later(CLUSTER),
    Key::new(
        "distribution.master_replica.sync_interval_secs",
        count(1, 86_400),
        "60",
        "time between two looks for changes, seconds",
    )
    .later(CLUSTER),
    Key::new(
        "distribution.distributed.sync_interval_ms",
        count(100, 3_600_000),
        "1000",
        "time between two looks for changes, milliseconds",
    )
    .later(CLUSTER),
    Key::new(
        "distribution.distributed.conflict_resolution",
        Kind::Choice(&["last-write-wins", "keep-both", "manual"]),
        "last-write-wins",
        "which of two concurrent edits keeps the name; none is discarded",
    )
    .later(CLUSTER),
];

//! How a file system is to be mounted.

use std::path::PathBuf;
use std::time::Duration;
use vfs::Stability;

/// How a file system is to be mounted.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory to mount on; it must exist.
    pub mount_point: PathBuf,
    /// Refuses every change, in the kernel.
    pub read_only: bool,
    /// Lets other users in, not only the one who mounted; for anybody but root this
    /// needs `user_allow_other` in `/etc/fuse.conf`.
    pub allow_other: bool,
    /// What `mount` and `df` show as the source.
    pub fs_name: String,
    /// What follows `fuse.` in the file system type.
    pub sub_type: String,
    /// Threads that read requests, never fewer than two; `None` means one per core.
    pub threads: Option<usize>,
    /// How long the kernel may keep what is valid until a change is announced
    /// ([`vfs::Validity::UntilChanged`]). It bounds the harm of an announcement that
    /// never came, so it is long but not endless.
    pub validity_max: Duration,
    /// How long the kernel may keep attributes whose answer carries no validity (the
    /// reply to `chmod` and its kin).
    pub attr_validity: Duration,
    /// Lets the kernel gather writes: small writes get much cheaper, but the file
    /// system learns of them late, sees no append, and a file's size and times are the
    /// kernel's as long as it has unwritten pages.
    pub writeback_cache: bool,
    /// How safe data is when `fsync(2)` returns.
    pub fsync: Stability,
    /// Removes the mount when this process dies, however it dies.
    pub unmount_on_death: bool,
    /// How far the kernel reads ahead in a file read from front to back, bytes. More
    /// than the kernel's own 128 KiB takes effect only for root.
    pub read_ahead: u32,
}

impl Options {
    /// The defaults for `mount_point`.
    #[must_use]
    pub fn new(mount_point: impl Into<PathBuf>) -> Self {
        Self {
            mount_point: mount_point.into(),
            read_only: false,
            allow_other: false,
            fs_name: "tgcryptfs".to_owned(),
            sub_type: "tgcryptfs".to_owned(),
            threads: None,
            validity_max: Duration::from_secs(3600),
            attr_validity: Duration::from_secs(1),
            writeback_cache: false,
            fsync: Stability::Journaled,
            unmount_on_death: true,
            read_ahead: 1 << 20,
        }
    }

    /// The file system type as the kernel shows it.
    pub(crate) fn fs_type(&self) -> String {
        format!("fuse.{}", self.sub_type)
    }

    /// How many threads read requests.
    pub(crate) fn thread_count(&self) -> usize {
        // Two at least: one request that is slow to answer must not stop all others.
        let cores = || std::thread::available_parallelism().map_or(2, usize::from);
        self.threads.unwrap_or_else(cores).max(2)
    }
}

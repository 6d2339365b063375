//! Directories that are still there after a power loss.
//!
//! See the store's module for which `fsync` is needed when.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// Opens `dir`, relative to `root`, for reading and for `fsync`.
pub(super) fn open_dir(root: BorrowedFd<'_>, dir: &str) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(root, dir, flags, Mode::empty()).map(File::from)
}

/// `fsync`s a directory.
pub(super) fn sync(dir: &File) -> rustix::io::Result<()> {
    crate::env::sync_dir(dir).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Which of the 256 fan-out directories this process knows to be durable.
#[derive(Debug, Default)]
pub(super) struct Fanouts {
    known: [AtomicU64; 4],
}

impl Fanouts {
    fn bit(&self, byte: u8) -> (&AtomicU64, u64) {
        (&self.known[usize::from(byte / 64)], 1 << (byte % 64))
    }

    pub(super) fn is_known(&self, byte: u8) -> bool {
        let (word, bit) = self.bit(byte);
        word.load(Ordering::Acquire) & bit != 0
    }

    pub(super) fn learn(&self, byte: u8) {
        let (word, bit) = self.bit(byte);
        word.fetch_or(bit, Ordering::Release);
    }
}

//! Open files and directories.

use super::Inner;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use vfs::{At, ErrorKind, Ino};

/// An open file or directory; dropping it closes it.
#[derive(Debug)]
pub struct Handle {
    inner: Arc<Inner>,
    /// What is open.
    pub(super) ino: u64,
    /// Reading is allowed.
    pub(super) read: bool,
    /// Writing is allowed.
    pub(super) write: bool,
    /// Where the last read ended, to recognise reading front to back.
    pub(super) read_end: AtomicU64,
    /// Up to where data was asked for ahead of time.
    pub(super) fetched_to: AtomicU64,
}

impl Handle {
    /// Opens an inode that is in memory; its slot counts the handle.
    pub(super) fn new(inner: Arc<Inner>, ino: u64, read: bool, write: bool) -> Self {
        Self { inner, ino, read, write, read_end: AtomicU64::new(0), fetched_to: AtomicU64::new(0) }
    }

    /// What is open.
    #[must_use]
    pub fn ino(&self) -> Ino {
        super::ino_of(self.ino)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.inner.state.lock();
        let Some(slot) = state.cached_slot(self.ino) else { return };
        slot.opens = slot.opens.saturating_sub(1);
        if slot.opens > 0 {
            return;
        }
        if slot.is_nameless() {
            // The last that kept it: the next commit removes it.
            let unsaved = slot.file.as_mut().map_or(0, |file| {
                let unsaved = file.current.extents.len();
                file.current = Default::default();
                unsaved
            });
            state.dirty_bytes -= unsaved;
            state.mark_dirty(self.ino);
            self.inner.locks.forget(self.ino());
        } else if !slot.is_dirty && slot.file.as_ref().is_some_and(|file| file.is_dispensable()) {
            // What a commit is about to merge stays: it may have been loaded for that.
            slot.file = None;
        }
    }
}

/// Which inode, and whether the handle it was named by allows more than the
/// inode's mode does now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) ino: u64,
    pub(super) is_open: bool,
    pub(super) can_read: bool,
    pub(super) can_write: bool,
}

impl Target {
    pub(super) fn of(at: At<'_, Handle>) -> Self {
        match at {
            At::Ino(ino) => {
                Self { ino: ino.get(), is_open: false, can_read: false, can_write: false }
            }
            At::Open(handle) => Self {
                ino: handle.ino,
                is_open: true,
                can_read: handle.read,
                can_write: handle.write,
            },
        }
    }

    /// Refuses a handle that was not opened for this.
    pub(super) fn check(self, allowed: bool) -> vfs::Result<()> {
        if self.is_open && !allowed { Err(ErrorKind::BadHandle.into()) } else { Ok(()) }
    }
}

impl Inner {
    /// Reports, once, why earlier writes through any handle could not be saved.
    pub(super) fn take_failure(&self, ino: u64) -> vfs::Result<()> {
        let mut state = self.state.lock();
        let file = state.cached_slot(ino).and_then(|slot| slot.file.as_mut());
        match file.and_then(|file| file.failure.take()) {
            Some(kind) => Err(vfs::Error::because(kind, "earlier writes are not saved yet")),
            None => Ok(()),
        }
    }
}

//! Locks: each owner is an open file description of its own, for `fcntl` ranges
//! (`F_OFD_SETLK`) as for `flock`.
//!
//! The kernel decides. It does not say whose a lock is, so a book is kept of what it
//! granted, which serves for nothing but to name the holder.

use super::nodes::Nodes;
use super::{fail, open_node, raw};
use rustix::fs::{FlockOperation, OFlags, flock};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use vfs::conformance::block_on;
use vfs::{ErrorKind, Ino, Lock, LockOwner, LockSpace, LockTable, LockWait, Result};

#[derive(Debug, Default)]
pub(super) struct Locks {
    files: Mutex<HashMap<(Ino, LockOwner), Arc<OwnedFd>>>,
    book: LockTable,
}

/// The range as the kernel counts it.
fn range(lock: &Lock, exclusive: Option<bool>) -> Result<raw::Range> {
    // A length of nothing would mean "to the end".
    if lock.start >= lock.end {
        return Err(ErrorKind::Invalid.into());
    }
    let start = i64::try_from(lock.start).map_err(|_| ErrorKind::Invalid)?;
    Ok(raw::Range { start, end: i64::try_from(lock.end).ok(), exclusive })
}

impl Locks {
    fn file(&self, nodes: &Nodes, ino: Ino, owner: LockOwner) -> Result<Arc<OwnedFd>> {
        if let Some(file) = self.files.lock().unwrap().get(&(ino, owner)) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(open_node(&nodes.find(ino)?, OFlags::RDWR)?);
        self.files.lock().unwrap().insert((ino, owner), Arc::clone(&file));
        Ok(file)
    }

    /// Takes a lock, if it is to be had now.
    pub(super) fn take(&self, nodes: &Nodes, ino: Ino, lock: &Lock) -> Result<()> {
        let file = self.file(nodes, ino, lock.owner)?;
        match (lock.space, lock.exclusive) {
            (LockSpace::Posix, exclusive) => {
                raw::set_lock(file.as_fd(), range(lock, Some(exclusive))?).map_err(fail)?;
            }
            (LockSpace::Flock, true) => {
                flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(fail)?;
            }
            (LockSpace::Flock, false) => {
                flock(&file, FlockOperation::NonBlockingLockShared).map_err(fail)?;
            }
        }
        block_on(self.book.lock(ino, lock, LockWait::Try))
            .map_err(|_| vfs::Error::because(ErrorKind::Io, "a lock was granted twice"))
    }

    pub(super) fn drop(&self, nodes: &Nodes, ino: Ino, lock: &Lock) -> Result<()> {
        let file = self.file(nodes, ino, lock.owner)?;
        match lock.space {
            LockSpace::Posix => raw::set_lock(file.as_fd(), range(lock, None)?).map_err(fail)?,
            LockSpace::Flock => flock(&file, FlockOperation::Unlock).map_err(fail)?,
        }
        self.book.unlock(ino, lock)
    }

    /// The first lock by offset that refuses `probe`. The kernel tells of any, so the
    /// range before the one it tells of is asked for until it is free.
    pub(super) fn conflict(&self, nodes: &Nodes, ino: Ino, probe: &Lock) -> Result<Option<Lock>> {
        if probe.space == LockSpace::Flock {
            // No system call asks about flock.
            return self.book.conflict(ino, probe);
        }
        let file = self.file(nodes, ino, probe.owner)?;
        let mut asked = range(probe, Some(probe.exclusive))?;
        let mut first = None;
        while let Some(found) = raw::refusing_lock(file.as_fd(), asked).map_err(fail)? {
            first = Some(found);
            if found.start <= asked.start {
                break;
            }
            asked.end = Some(found.start);
        }
        let Some(found) = first else { return Ok(None) };
        let told = Lock {
            start: found.start as u64,
            end: found.end.map_or(u64::MAX, |end| end as u64),
            exclusive: found.exclusive == Some(true),
            ..*probe
        };
        let holder = self.book.conflict(ino, &Lock { exclusive: probe.exclusive, ..told })?;
        let holder = holder
            .ok_or_else(|| vfs::Error::because(ErrorKind::Io, "a lock that nobody has taken"))?;
        Ok(Some(Lock { owner: holder.owner, pid: holder.pid, ..told }))
    }
}

//! Which locks a connection has taken, so that they go when it does.
//!
//! The protocol names the owner of a lock: a process of a machine. It does not tell
//! `flock(2)` from `fcntl(2)`, and both become ranges of a process here, as Linux sends
//! them. Linux has settled what its own processes want of each other before it asks, so
//! what matters here is what other clients want.

use crate::wire::{ClaimedLock, lock};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use vfs::{ClientId, ErrorKind, Ino, Lock, LockOwner, LockSpace, Result};

/// Numbers of connections, over all servers of this process, which may have one file
/// system in common. The first byte keeps them apart from those of other protocols.
pub(crate) fn next_client() -> ClientId {
    static NEXT: AtomicU64 = AtomicU64::new(0x39 << 56);
    ClientId(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What a client asks for, as a lock of the file system's; `None` for no lock.
pub(crate) fn wanted(client: ClientId, claimed: &ClaimedLock) -> Result<(Lock, bool)> {
    let end = match claimed.len {
        0 => u64::MAX,
        len => claimed.start.checked_add(len).ok_or(ErrorKind::Invalid)?,
    };
    let (exclusive, unlocks) = match claimed.kind {
        lock::READ => (false, false),
        lock::WRITE => (true, false),
        lock::UNLOCK => (false, true),
        _ => return Err(ErrorKind::Invalid.into()),
    };
    let mut machine = DefaultHasher::new();
    claimed.machine.hash(&mut machine);
    let owner = u64::from(claimed.process) | machine.finish() << 32;
    let lock = Lock {
        owner: LockOwner { client, owner },
        space: LockSpace::Posix,
        start: claimed.start,
        end,
        exclusive,
        pid: claimed.process,
    };
    Ok((lock, unlocks))
}

/// Whether a lock is about all of a file, as those of `flock(2)` are.
pub(crate) fn is_whole(lock: &Lock) -> bool {
    lock.start == 0 && lock.end == u64::MAX
}

/// The owners that have locked something, and through which fids.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<HashMap<(Ino, LockOwner), Vec<u32>>>);

impl Held {
    /// Notes that an owner has a lock, taken through a fid.
    pub(crate) fn add(&self, ino: Ino, owner: LockOwner, fid: u32) {
        let mut held = self.0.lock();
        let fids = held.entry((ino, owner)).or_default();
        if !fids.contains(&fid) {
            fids.push(fid);
        }
    }

    /// Notes that an owner has no lock any more.
    pub(crate) fn remove(&self, ino: Ino, owner: LockOwner) {
        self.0.lock().remove(&(ino, owner));
    }

    /// Whether all that an owner has was taken through this fid.
    pub(crate) fn is_only_by(&self, ino: Ino, owner: LockOwner, fid: u32) -> bool {
        self.0.lock().get(&(ino, owner)).is_some_and(|fids| **fids == [fid])
    }

    /// A fid is gone: gives the owners who had their locks through it alone.
    pub(crate) fn clunked(&self, ino: Ino, fid: u32) -> Vec<LockOwner> {
        let mut orphans = Vec::new();
        self.0.lock().retain(|&(at, owner), fids| {
            if at == ino {
                fids.retain(|it| *it != fid);
            }
            if fids.is_empty() {
                orphans.push(owner);
            }
            !fids.is_empty()
        });
        orphans
    }

    /// Everything, which is forgotten.
    pub(crate) fn take_all(&self) -> Vec<(Ino, LockOwner)> {
        std::mem::take(&mut *self.0.lock()).into_keys().collect()
    }
}

/// All that an owner has of a file.
pub(crate) fn everything(owner: LockOwner) -> Lock {
    let (start, end) = (0, u64::MAX);
    Lock { owner, space: LockSpace::Posix, start, end, exclusive: false, pid: 0 }
}

#[cfg(test)]
mod tests {
    use super::{Held, next_client, wanted};
    use crate::wire::ClaimedLock;
    use bytes::Bytes;
    use vfs::Ino;

    fn claimed(process: u32, machine: &'static [u8], start: u64, len: u64) -> ClaimedLock {
        ClaimedLock { fid: 1, kind: 1, start, len, process, machine: Bytes::from_static(machine) }
    }

    #[test]
    fn a_process_of_a_machine_is_an_owner() {
        let client = next_client();
        let owner =
            |process, machine| wanted(client, &claimed(process, machine, 0, 0)).unwrap().0.owner;
        assert_eq!(owner(1, b"a"), owner(1, b"a"));
        assert_ne!(owner(1, b"a"), owner(2, b"a"));
        assert_ne!(owner(1, b"a"), owner(1, b"b"));
        assert_ne!(next_client(), client);
    }

    #[test]
    fn ranges_are_checked() {
        let client = next_client();
        let range = |start, len| {
            wanted(client, &claimed(1, b"a", start, len)).map(|(lock, _)| (lock.start, lock.end))
        };
        assert_eq!(range(5, 10).unwrap(), (5, 15));
        assert_eq!(range(5, 0).unwrap(), (5, u64::MAX));
        assert!(range(u64::MAX, 2).is_err());
        assert!(wanted(client, &ClaimedLock { kind: 3, ..claimed(1, b"a", 0, 0) }).is_err());
    }

    #[test]
    fn the_last_fid_takes_the_locks_along() {
        let (held, ino) = (Held::default(), Ino::ROOT);
        let owner = wanted(next_client(), &claimed(1, b"a", 0, 0)).unwrap().0.owner;
        for fid in [1, 2, 2] {
            held.add(ino, owner, fid);
        }
        assert!(!held.is_only_by(ino, owner, 1));
        assert!(held.clunked(ino, 1).is_empty());
        assert!(held.is_only_by(ino, owner, 2));
        assert!(held.clunked(Ino::new(9).unwrap(), 2).is_empty());
        assert_eq!(held.clunked(ino, 2), [owner]);
        assert!(held.take_all().is_empty());
    }
}

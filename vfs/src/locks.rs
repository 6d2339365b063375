//! Advisory locks, as a table any implementation can own.
//!
//! Invariants: the locks of one owner in one space never overlap, and neighbours
//! of the same sort are one lock; no two owners hold conflicting locks. A waiter
//! holds nothing: it is woken whenever a lock of its inode goes away and tries
//! again, so dropping its future is all it takes to give up.
//!
//! A client has at most [`CLIENT_LOCKS_MAX`] locks, so that one who takes them without
//! end fills neither the memory nor everybody else's time.
//!
//! The table is memory only. Locks end with the machine, as `fcntl(2)` says.

use crate::{ClientId, ErrorKind, Ino, Lock, LockOwner, LockSpace, LockWait, Result};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Locks one client may hold, over all files. A kernel that settles the locks of its own
/// processes itself ([`ClientId`] of a whole machine) comes nowhere near.
pub const CLIENT_LOCKS_MAX: usize = 1 << 16;

/// Locks that one more may add: in the middle of another it leaves both ends of that.
const LOCK_ADDS_MAX: usize = 2;

/// Every advisory lock of a file system.
#[derive(Debug, Default)]
pub struct LockTable {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<Ino, File>,
    /// Locks that each client has; none are not listed.
    counts: HashMap<ClientId, usize>,
    waiter_next: u64,
}

#[derive(Debug, Default)]
struct File {
    held: Vec<Lock>,
    waiting: Vec<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    lock: Lock,
    waker: Waker,
}

impl LockTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The first lock, by offset, that would refuse `probe`.
    pub fn conflict(&self, ino: Ino, probe: &Lock) -> Result<Option<Lock>> {
        let probe = normal(probe)?;
        Ok(self.state().files.get(&ino).and_then(|file| file.conflict(&probe)))
    }

    /// Takes `lock`, replacing the owner's own locks in its range.
    ///
    /// With [`LockWait::Try`] the future is ready when first polled, and a failed
    /// attempt changes nothing. With [`LockWait::Block`] it waits; a `flock` that
    /// has to wait gives up what it held first, as `flock(2)` says, so that two
    /// holders of a shared lock who both want it alone do not wait for each other.
    pub fn lock(&self, ino: Ino, lock: &Lock, wait: LockWait) -> Acquire<'_> {
        Acquire { table: self, ino, lock: *lock, wait, waiter: None }
    }

    /// Drops the owner's locks in the range and space of `lock`.
    pub fn unlock(&self, ino: Ino, lock: &Lock) -> Result<()> {
        let lock = normal(lock)?;
        let mut wakers = Vec::new();
        let mut state = self.state();
        let is_full = state.count(lock.owner.client) >= CLIENT_LOCKS_MAX;
        if let Some(file) = state.files.get_mut(&ino) {
            let splits = |held: &Lock| {
                same_party(held, &lock) && held.start < lock.start && lock.end < held.end
            };
            if is_full && file.held.iter().any(splits) {
                return Err(ErrorKind::NoLocks.into());
            }
            let change = file.cut(|held| same_party(held, &lock).then_some((lock.start, lock.end)));
            if change.is_any {
                wakers.extend(file.wakers());
            }
            state.recount(lock.owner.client, change);
            state.prune(ino);
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Drops every lock of one owner, as the end of a process does.
    pub fn release_owner(&self, owner: LockOwner) {
        self.release(owner.client, |held| held.owner == owner);
    }

    /// Drops every lock of one session, as the end of its connection does.
    pub fn release_client(&self, client: ClientId) {
        self.release(client, |held| held.owner.client == client);
    }

    /// Forgets an inode that is gone; who waits for it gets [`ErrorKind::Stale`].
    pub fn forget(&self, ino: Ino) {
        let mut state = self.state();
        let Some(file) = state.files.remove(&ino) else { return };
        for held in file.held {
            state.recount(held.owner.client, Change { removed: 1, ..Change::default() });
        }
        drop(state);
        for waiter in file.waiting {
            waiter.waker.wake();
        }
    }

    /// How many locks are held.
    #[must_use]
    pub fn held_count(&self) -> usize {
        self.state().files.values().map(|file| file.held.len()).sum()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the locks of `client` that `pick` names, then wakes who may profit.
    fn release(&self, client: ClientId, pick: impl Fn(&Lock) -> bool) {
        let mut wakers = Vec::new();
        let mut state = self.state();
        if state.count(client) == 0 {
            return;
        }
        let mut removed = 0;
        state.files.retain(|_, file| {
            let change = file.cut(|held| pick(held).then_some((0, u64::MAX)));
            if change.is_any {
                wakers.extend(file.wakers());
            }
            removed += change.removed;
            !(file.held.is_empty() && file.waiting.is_empty())
        });
        state.recount(client, Change { removed, ..Change::default() });
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// What became of the locks of a file.
#[derive(Clone, Copy, Debug, Default)]
struct Change {
    added: usize,
    removed: usize,
    /// Whether others may now have what they could not have.
    is_any: bool,
}

impl File {
    fn conflict(&self, wanted: &Lock) -> Option<Lock> {
        let conflicting = self.held.iter().filter(|held| blocks(held, wanted));
        conflicting.min_by_key(|held| held.start).copied()
    }

    fn wakers(&self) -> impl Iterator<Item = Waker> {
        self.waiting.iter().map(|waiter| waiter.waker.clone())
    }

    /// Cuts ranges out of the locks held.
    fn cut(&mut self, pick: impl Fn(&Lock) -> Option<(u64, u64)>) -> Change {
        let mut kept = Vec::with_capacity(self.held.len() + 1);
        let mut change = Change::default();
        for held in &self.held {
            match pick(held) {
                Some((start, end)) if start < held.end && held.start < end => {
                    change.is_any = true;
                    change.removed += 1;
                    if held.start < start {
                        kept.push(Lock { end: start, ..*held });
                        change.added += 1;
                    }
                    if end < held.end {
                        kept.push(Lock { start: end, ..*held });
                        change.added += 1;
                    }
                }
                _ => kept.push(*held),
            }
        }
        self.held = kept;
        change
    }

    /// Grants `lock`, which nothing conflicts with. Others may now have what the owner
    /// gave up for it.
    fn grant(&mut self, mut lock: Lock) -> Change {
        let loosens = !lock.exclusive
            && self
                .held
                .iter()
                .any(|held| held.exclusive && same_party(held, &lock) && overlap(held, &lock));
        let cut = self.cut(|held| same_party(held, &lock).then_some((lock.start, lock.end)));
        let count = self.held.len();
        self.held.retain(|held| {
            let joins = same_party(held, &lock)
                && held.exclusive == lock.exclusive
                && (held.end == lock.start || held.start == lock.end);
            if joins {
                lock.start = lock.start.min(held.start);
                lock.end = lock.end.max(held.end);
            }
            !joins
        });
        let removed = cut.removed + count - self.held.len();
        self.held.push(lock);
        Change { added: cut.added + 1, removed, is_any: loosens }
    }
}

impl State {
    fn count(&self, client: ClientId) -> usize {
        self.counts.get(&client).copied().unwrap_or(0)
    }

    /// Keeps count of what a client has.
    fn recount(&mut self, client: ClientId, change: Change) {
        let count = self.counts.entry(client).or_default();
        *count = (*count + change.added).saturating_sub(change.removed);
        if *count == 0 {
            self.counts.remove(&client);
        }
    }

    /// Takes a waiter off the list; answers whether it was there.
    fn leave(&mut self, ino: Ino, id: u64) -> bool {
        let Some(file) = self.files.get_mut(&ino) else { return false };
        let count = file.waiting.len();
        file.waiting.retain(|waiter| waiter.id != id);
        file.waiting.len() < count
    }

    /// Keeps no record of a file that has neither holders nor waiters.
    fn prune(&mut self, ino: Ino) {
        if self.files.get(&ino).is_some_and(|file| file.held.is_empty() && file.waiting.is_empty())
        {
            self.files.remove(&ino);
        }
    }

    /// Whether `owner`, if it waited for `lock` on `ino`, would in the end wait
    /// for itself.
    fn would_deadlock(&self, ino: Ino, lock: &Lock) -> bool {
        let mut seen = Vec::new();
        let mut pending = vec![(ino, *lock)];
        while let Some((ino, wanted)) = pending.pop() {
            let held = self.files.get(&ino).map_or(&[][..], |file| &file.held);
            for holder in held.iter().filter(|held| blocks(held, &wanted)).map(|held| held.owner) {
                if holder == lock.owner {
                    return true;
                }
                if seen.contains(&holder) {
                    continue;
                }
                seen.push(holder);
                for (&ino, file) in &self.files {
                    let waits = file.waiting.iter().filter(|waiter| waiter.lock.owner == holder);
                    pending.extend(waits.map(|waiter| (ino, waiter.lock)));
                }
            }
        }
        false
    }
}

/// The wait for a lock; see [`LockTable::lock`].
#[derive(Debug)]
#[must_use = "a lock is taken when this is awaited"]
pub struct Acquire<'a> {
    table: &'a LockTable,
    ino: Ino,
    lock: Lock,
    wait: LockWait,
    waiter: Option<u64>,
}

impl Future for Acquire<'_> {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let lock = normal(&self.lock)?;
        let mut wakers = Vec::new();
        let mut state = self.table.state();
        let forgotten = self.waiter.take().is_some_and(|id| !state.leave(self.ino, id));
        let poll = if forgotten {
            Poll::Ready(Err(ErrorKind::Stale.into()))
        } else {
            self.attempt(&mut state, lock, cx.waker(), &mut wakers)
        };
        state.prune(self.ino);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        poll
    }
}

impl Acquire<'_> {
    fn attempt(
        &mut self,
        state: &mut State,
        lock: Lock,
        waker: &Waker,
        wakers: &mut Vec<Waker>,
    ) -> Poll<Result<()>> {
        let client = lock.owner.client;
        let is_full = state.count(client) + LOCK_ADDS_MAX > CLIENT_LOCKS_MAX;
        let file = state.files.entry(self.ino).or_default();
        if file.conflict(&lock).is_none() {
            if is_full {
                return Poll::Ready(Err(ErrorKind::NoLocks.into()));
            }
            let change = file.grant(lock);
            if change.is_any {
                wakers.extend(file.wakers());
            }
            state.recount(client, change);
            return Poll::Ready(Ok(()));
        }
        if self.wait == LockWait::Try {
            return Poll::Ready(Err(ErrorKind::WouldBlock.into()));
        }
        match lock.space {
            LockSpace::Flock => {
                let change = file.cut(|held| same_party(held, &lock).then_some((0, u64::MAX)));
                if change.is_any {
                    wakers.extend(file.wakers());
                }
                state.recount(client, change);
            }
            LockSpace::Posix if state.would_deadlock(self.ino, &lock) => {
                return Poll::Ready(Err(ErrorKind::Deadlock.into()));
            }
            LockSpace::Posix => {}
        }
        let id = state.waiter_next;
        state.waiter_next += 1;
        let file = state.files.entry(self.ino).or_default();
        file.waiting.push(Waiter { id, lock, waker: waker.clone() });
        self.waiter = Some(id);
        Poll::Pending
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.waiter.take() {
            let mut state = self.table.state();
            state.leave(self.ino, id);
            state.prune(self.ino);
        }
    }
}

/// The lock with its range as it counts: `flock` is always about the whole file.
fn normal(lock: &Lock) -> Result<Lock> {
    match lock.space {
        LockSpace::Flock => Ok(Lock { start: 0, end: u64::MAX, ..*lock }),
        LockSpace::Posix if lock.start < lock.end => Ok(*lock),
        LockSpace::Posix => Err(ErrorKind::Invalid.into()),
    }
}

fn same_party(a: &Lock, b: &Lock) -> bool {
    a.owner == b.owner && a.space == b.space
}

fn overlap(a: &Lock, b: &Lock) -> bool {
    a.start < b.end && b.start < a.end
}

/// Whether `held` refuses `wanted`.
fn blocks(held: &Lock, wanted: &Lock) -> bool {
    held.space == wanted.space
        && held.owner != wanted.owner
        && overlap(held, wanted)
        && (held.exclusive || wanted.exclusive)
}

#[cfg(test)]
mod tests;

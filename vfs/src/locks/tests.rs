//! What lock tables promise: splitting, joining, waiting and giving up.

use super::{CLIENT_LOCKS_MAX, LockTable};
use crate::{ClientId, ErrorKind, Ino, Lock, LockOwner, LockSpace, LockWait};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn posix(owner: u64, start: u64, end: u64, exclusive: bool) -> Lock {
    let owner = LockOwner { client: ClientId(owner / 10), owner };
    Lock { owner, space: LockSpace::Posix, start, end, exclusive, pid: 0 }
}

fn flock(owner: u64, exclusive: bool) -> Lock {
    Lock { space: LockSpace::Flock, ..posix(owner, 0, 1, exclusive) }
}

fn poll(future: Pin<&mut super::Acquire<'_>>) -> Poll<Result<(), ErrorKind>> {
    future.poll(&mut Context::from_waker(Waker::noop())).map_err(|error| error.kind())
}

fn take(table: &LockTable, lock: &Lock) -> Result<(), ErrorKind> {
    match poll(pin!(table.lock(Ino::ROOT, lock, LockWait::Try))) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("Try must not wait"),
    }
}

fn ranges(table: &LockTable) -> Vec<(u64, u64, u64, bool)> {
    let state = table.state();
    let held = state.files.get(&Ino::ROOT).map(|file| file.held.clone()).unwrap_or_default();
    let mut ranges: Vec<_> =
        held.iter().map(|lock| (lock.owner.owner, lock.start, lock.end, lock.exclusive)).collect();
    ranges.sort_unstable();
    ranges
}

#[test]
fn neighbours_and_overlaps_of_one_owner_become_one_lock() {
    let table = LockTable::new();
    take(&table, &posix(1, 0, 10, true)).unwrap();
    take(&table, &posix(1, 20, 30, true)).unwrap();
    take(&table, &posix(1, 10, 20, true)).unwrap();
    assert_eq!(ranges(&table), [(1, 0, 30, true)]);
    take(&table, &posix(1, 25, 40, true)).unwrap();
    assert_eq!(ranges(&table), [(1, 0, 40, true)]);
}

#[test]
fn another_sort_in_the_middle_splits() {
    let table = LockTable::new();
    take(&table, &posix(1, 0, 30, true)).unwrap();
    take(&table, &posix(1, 10, 20, false)).unwrap();
    assert_eq!(ranges(&table), [(1, 0, 10, true), (1, 10, 20, false), (1, 20, 30, true)]);
    table.unlock(Ino::ROOT, &posix(1, 5, 12, true)).unwrap();
    assert_eq!(ranges(&table), [(1, 0, 5, true), (1, 12, 20, false), (1, 20, 30, true)]);
    table.unlock(Ino::ROOT, &posix(1, 0, u64::MAX, true)).unwrap();
    assert_eq!(table.held_count(), 0);
    assert!(table.state().files.is_empty(), "nothing is remembered about an unlocked file");
}

#[test]
fn shared_locks_share_and_exclusive_ones_do_not() {
    let table = LockTable::new();
    take(&table, &posix(1, 0, 10, false)).unwrap();
    take(&table, &posix(2, 5, 15, false)).unwrap();
    assert_eq!(take(&table, &posix(2, 5, 15, true)), Err(ErrorKind::WouldBlock));
    assert_eq!(ranges(&table).len(), 2, "a failed attempt changes nothing");
    take(&table, &posix(2, 10, 15, true)).unwrap();
    assert_eq!(take(&table, &posix(3, 14, u64::MAX, false)), Err(ErrorKind::WouldBlock));
    take(&table, &posix(3, 15, u64::MAX, true)).unwrap();
}

#[test]
fn the_first_conflict_by_offset_is_reported() {
    let table = LockTable::new();
    take(&table, &posix(2, 50, 60, true)).unwrap();
    take(&table, &posix(3, 10, 20, true)).unwrap();
    take(&table, &posix(1, 0, 5, true)).unwrap();
    let found = table.conflict(Ino::ROOT, &posix(1, 0, u64::MAX, false)).unwrap().unwrap();
    assert_eq!((found.owner.owner, found.start, found.end), (3, 10, 20));
    assert_eq!(table.conflict(Ino::ROOT, &posix(1, 20, 50, true)).unwrap(), None);
    assert_eq!(table.conflict(Ino::ROOT, &flock(1, true)).unwrap(), None, "spaces are apart");
}

#[test]
fn an_empty_range_is_refused() {
    let table = LockTable::new();
    assert_eq!(take(&table, &posix(1, 5, 5, true)), Err(ErrorKind::Invalid));
    assert!(table.unlock(Ino::ROOT, &posix(1, 6, 5, true)).is_err());
    assert!(table.conflict(Ino::ROOT, &posix(1, 6, 5, true)).is_err());
}

#[test]
fn a_waiter_is_woken_and_gets_the_lock() {
    let table = LockTable::new();
    take(&table, &posix(1, 0, 10, true)).unwrap();
    let wanted = posix(2, 0, 10, true);
    let mut waiting = pin!(table.lock(Ino::ROOT, &wanted, LockWait::Block));
    let woken = Arc::new(Count::default());
    let waker = Waker::from(woken.clone());
    let mut cx = Context::from_waker(&waker);
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    table.unlock(Ino::ROOT, &posix(1, 0, 4, true)).unwrap();
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert!(waiting.as_mut().poll(&mut cx).is_pending(), "part of the range is still taken");
    take(&table, &posix(1, 4, 10, false)).unwrap();
    assert_eq!(woken.0.load(Ordering::Relaxed), 2, "a downgrade may let others in");
    table.unlock(Ino::ROOT, &posix(1, 0, u64::MAX, true)).unwrap();
    assert!(waiting.as_mut().poll(&mut cx).is_ready());
    assert_eq!(ranges(&table), [(2, 0, 10, true)]);
}

#[test]
fn dropping_the_wait_gives_it_up() {
    let table = LockTable::new();
    take(&table, &posix(1, 0, 10, true)).unwrap();
    let wanted = posix(2, 0, 10, true);
    let mut waiting = Box::pin(table.lock(Ino::ROOT, &wanted, LockWait::Block));
    assert!(poll(waiting.as_mut()).is_pending());
    drop(waiting);
    table.unlock(Ino::ROOT, &posix(1, 0, 10, true)).unwrap();
    assert_eq!(table.held_count(), 0);
    take(&table, &posix(3, 0, 10, true)).unwrap();
}

#[test]
fn flock_covers_the_file_and_converts_without_deadlock() {
    let table = LockTable::new();
    take(&table, &flock(1, false)).unwrap();
    take(&table, &flock(2, false)).unwrap();
    assert_eq!(take(&table, &flock(1, true)), Err(ErrorKind::WouldBlock));
    let wanted = flock(1, true);
    let mut first = pin!(table.lock(Ino::ROOT, &wanted, LockWait::Block));
    assert!(poll(first.as_mut()).is_pending());
    take(&table, &flock(2, true)).unwrap();
    table.unlock(Ino::ROOT, &flock(2, true)).unwrap();
    assert_eq!(poll(first.as_mut()), Poll::Ready(Ok(())));
}

#[test]
fn a_circle_of_waiters_is_refused() {
    let (table, other) = (LockTable::new(), Ino::new(7).unwrap());
    take(&table, &posix(1, 0, 1, true)).unwrap();
    let two = posix(2, 0, 1, true);
    assert_eq!(poll(pin!(table.lock(other, &two, LockWait::Try))), Poll::Ready(Ok(())));
    let one = posix(1, 0, 1, true);
    let mut first = pin!(table.lock(other, &one, LockWait::Block));
    assert!(poll(first.as_mut()).is_pending());
    let second = poll(pin!(table.lock(Ino::ROOT, &two, LockWait::Block)));
    assert_eq!(second, Poll::Ready(Err(ErrorKind::Deadlock)));
}

#[test]
fn the_end_of_an_owner_or_a_session_frees_everything_of_theirs() {
    let table = LockTable::new();
    for owner in [10, 11, 20] {
        take(&table, &posix(owner, owner, owner + 1, true)).unwrap();
    }
    table.release_owner(posix(10, 0, 1, true).owner);
    assert_eq!(ranges(&table).iter().map(|lock| lock.0).collect::<Vec<_>>(), [11, 20]);
    table.release_client(ClientId(1));
    assert_eq!(ranges(&table).iter().map(|lock| lock.0).collect::<Vec<_>>(), [20]);
}

#[test]
fn who_waits_for_a_forgotten_inode_is_told() {
    let table = LockTable::new();
    take(&table, &posix(1, 0, 10, true)).unwrap();
    let wanted = posix(2, 0, 10, true);
    let mut waiting = pin!(table.lock(Ino::ROOT, &wanted, LockWait::Block));
    assert!(poll(waiting.as_mut()).is_pending());
    table.forget(Ino::ROOT);
    assert_eq!(poll(waiting.as_mut()), Poll::Ready(Err(ErrorKind::Stale)));
    assert_eq!(table.held_count(), 0);
}

#[test]
fn a_client_has_so_many_locks_and_others_do_not_suffer() {
    let table = LockTable::new();
    let lock_at = |number: u64, lock: &Lock| {
        let ino = Ino::new(2 + number / 64).unwrap();
        match poll(pin!(table.lock(ino, lock, LockWait::Try))) {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("Try must not wait"),
        }
    };
    let apart = |number: u64| posix(10, 10 * number, 10 * number + 5, true);
    let taken = (0..).take_while(|number| lock_at(*number, &apart(*number)).is_ok()).count();
    assert_eq!(taken, CLIENT_LOCKS_MAX - 1, "one more may become three");
    assert_eq!(lock_at(0, &posix(11, 1000, 1001, true)), Err(ErrorKind::NoLocks), "owner or not");
    lock_at(0, &posix(20, 1000, 1001, true)).unwrap();

    let first = Ino::new(2).unwrap();
    table.unlock(first, &posix(10, 1, 2, true)).unwrap();
    assert_eq!(table.held_count(), CLIENT_LOCKS_MAX + 1);
    let splitting = table.unlock(first, &posix(10, 3, 4, true)).unwrap_err();
    assert_eq!(splitting.kind(), ErrorKind::NoLocks);
    table.unlock(first, &posix(10, 0, 15, true)).unwrap();
    lock_at(0, &apart(0)).unwrap();

    table.forget(first);
    table.release_client(ClientId(1));
    assert_eq!(table.held_count(), 0, "the other one's was in the file that is gone");
    assert!(table.state().counts.is_empty() && table.state().files.is_empty());
}

//! Advisory locks.

use super::fixture::{Fixture, Verdict, fails, holds, same};
use super::poll_once;
use crate::{
    At, ClientId, ErrorKind, Ino, Lock, LockOwner, LockSpace, LockWait, OpenFlags, Result, Vfs,
};

super::list! { "locks":
    exclusive_locks_exclude,
    shared_locks_share,
    ranges_that_do_not_meet_do_not_matter,
    own_locks_do_not_conflict,
    unlocking_part_of_a_range_keeps_the_rest,
    a_lock_may_change_its_sort,
    the_conflict_is_described,
    flock_and_posix_locks_ignore_each_other,
    flock_covers_the_whole_file,
    files_are_locked_apart,
    locks_work_by_handle_and_by_number,
    waiting_ends_with_the_lock,
    giving_up_a_wait_leaves_nothing,
    an_empty_range_is_refused,
    unlocking_what_is_not_locked_is_nothing,
}

fn lock(owner: u64, start: u64, end: u64, exclusive: bool) -> Lock {
    let owner = LockOwner { client: ClientId(1), owner };
    Lock { owner, space: LockSpace::Posix, start, end, exclusive, pid: 7 }
}

fn flock(owner: u64, exclusive: bool) -> Lock {
    Lock { space: LockSpace::Flock, ..lock(owner, 0, u64::MAX, exclusive) }
}

async fn take<V: Vfs>(t: &Fixture<V>, ino: Ino, lock: &Lock) -> Result<()> {
    t.fs.lock(t.cx(), At::Ino(ino), lock, LockWait::Try).await
}

async fn drop_lock<V: Vfs>(t: &Fixture<V>, ino: Ino, lock: &Lock) -> Result<()> {
    t.fs.unlock(t.cx(), At::Ino(ino), lock).await
}

async fn conflict<V: Vfs>(t: &Fixture<V>, ino: Ino, probe: &Lock) -> Result<Option<Lock>> {
    t.fs.lock_conflict(t.cx(), At::Ino(ino), probe).await
}

async fn exclusive_locks_exclude<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    take(t, ino, &lock(1, 10, 20, true)).await?;
    for (start, end) in [(0, 11), (10, 20), (19, u64::MAX), (12, 13)] {
        for exclusive in [true, false] {
            let taken = take(t, ino, &lock(2, start, end, exclusive)).await;
            fails(taken, ErrorKind::WouldBlock, &format!("{start}..{end} {exclusive}"))?;
        }
    }
    drop_lock(t, ino, &lock(1, 0, u64::MAX, true)).await?;
    take(t, ino, &lock(2, 0, u64::MAX, true)).await?;
    Ok(())
}

async fn shared_locks_share<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    take(t, ino, &lock(1, 0, 10, false)).await?;
    take(t, ino, &lock(2, 5, 15, false)).await?;
    let taken = take(t, ino, &lock(2, 5, 15, true)).await;
    fails(taken, ErrorKind::WouldBlock, "one of two wants it alone")?;
    drop_lock(t, ino, &lock(1, 0, 10, false)).await?;
    take(t, ino, &lock(2, 5, 15, true)).await?;
    Ok(())
}

async fn ranges_that_do_not_meet_do_not_matter<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    take(t, ino, &lock(1, 10, 20, true)).await?;
    take(t, ino, &lock(2, 0, 10, true)).await?;
    take(t, ino, &lock(3, 20, u64::MAX, true)).await?;
    Ok(())
}

async fn own_locks_do_not_conflict<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    take(t, ino, &lock(1, 0, 100, true)).await?;
    take(t, ino, &lock(1, 50, 150, true)).await?;
    same(conflict(t, ino, &lock(1, 0, 1000, true)).await?, None, "conflict with oneself")?;
    // The same owner number in another session is somebody else.
    let other = LockOwner { client: ClientId(2), owner: 1 };
    let taken = take(t, ino, &Lock { owner: other, ..lock(1, 0, 1, true) }).await;
    fails(taken, ErrorKind::WouldBlock, "another session")
}

async fn unlocking_part_of_a_range_keeps_the_rest<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    take(t, ino, &lock(1, 0, 100, true)).await?;
    drop_lock(t, ino, &lock(1, 40, 60, true)).await?;
    take(t, ino, &lock(2, 40, 60, true)).await?;
    for (start, end) in [(39, 40), (60, 61)] {
        let taken = take(t, ino, &lock(2, start, end, true)).await;
        fails(taken, ErrorKind::WouldBlock, "what was not unlocked")?;
    }
    Ok(())
}

async fn a_lock_may_change_its_sort<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    take(t, ino, &lock(1, 0, 100, true)).await?;
    take(t, ino, &lock(1, 20, 40, false)).await?;
    take(t, ino, &lock(2, 20, 40, false)).await?;
    for start in [19, 40] {
        let taken = take(t, ino, &lock(2, start, start + 1, false)).await;
        fails(taken, ErrorKind::WouldBlock, "what stayed exclusive")?;
    }
    Ok(())
}

async fn the_conflict_is_described<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    take(t, ino, &lock(1, 50, 60, true)).await?;
    take(t, ino, &lock(2, 10, 20, false)).await?;
    let probe = lock(3, 0, u64::MAX, true);
    same(conflict(t, ino, &probe).await?, Some(lock(2, 10, 20, false)), "the first by offset")?;
    let probe = lock(3, 0, u64::MAX, false);
    same(conflict(t, ino, &probe).await?, Some(lock(1, 50, 60, true)), "the first that refuses")?;
    same(conflict(t, ino, &lock(3, 20, 50, true)).await?, None, "between them")
}

async fn flock_and_posix_locks_ignore_each_other<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    take(t, ino, &lock(1, 0, u64::MAX, true)).await?;
    take(t, ino, &flock(2, true)).await?;
    fails(take(t, ino, &flock(1, false)).await, ErrorKind::WouldBlock, "flock")?;
    drop_lock(t, ino, &flock(2, true)).await?;
    fails(take(t, ino, &lock(2, 0, 1, true)).await, ErrorKind::WouldBlock, "range")
}

async fn flock_covers_the_whole_file<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    take(t, ino, &Lock { start: 5, end: 6, ..flock(1, true) }).await?;
    let other = Lock { start: 10, end: 11, ..flock(2, true) };
    fails(take(t, ino, &other).await, ErrorKind::WouldBlock, "another range")?;
    take(t, ino, &flock(1, false)).await?;
    take(t, ino, &flock(2, false)).await?;
    Ok(())
}

async fn files_are_locked_apart<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let (one, two) = (t.file("one").await?, t.file("two").await?);
    take(t, one, &lock(1, 0, 10, true)).await?;
    take(t, two, &lock(2, 0, 10, true)).await?;
    Ok(())
}

async fn locks_work_by_handle_and_by_number<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let handle = t.open(ino, OpenFlags::READ_WRITE).await?;
    t.fs.lock(t.cx(), At::Open(&handle), &lock(1, 0, 10, true), LockWait::Try).await?;
    fails(take(t, ino, &lock(2, 0, 10, true)).await, ErrorKind::WouldBlock, "by number")?;
    t.fs.unlock(t.cx(), At::Open(&handle), &lock(1, 0, 10, true)).await?;
    take(t, ino, &lock(2, 0, 10, true)).await?;
    Ok(())
}

async fn waiting_ends_with_the_lock<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    for (held, wanted) in
        [(lock(1, 0, 10, true), lock(2, 5, 15, true)), (flock(1, false), flock(2, true))]
    {
        take(t, ino, &held).await?;
        let mut wait = Box::pin(t.fs.lock(t.cx(), At::Ino(ino), &wanted, LockWait::Block));
        holds(poll_once(wait.as_mut()).await.is_pending(), "waits")?;
        drop_lock(t, ino, &held).await?;
        wait.await?;
        fails(take(t, ino, &held).await, ErrorKind::WouldBlock, "what was waited for is held")?;
        drop_lock(t, ino, &wanted).await?;
    }
    Ok(())
}

async fn giving_up_a_wait_leaves_nothing<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let (held, wanted) = (lock(1, 0, 10, true), lock(2, 0, 10, true));
    take(t, ino, &held).await?;
    let mut wait = Box::pin(t.fs.lock(t.cx(), At::Ino(ino), &wanted, LockWait::Block));
    holds(poll_once(wait.as_mut()).await.is_pending(), "waits")?;
    drop(wait);
    drop_lock(t, ino, &held).await?;
    same(conflict(t, ino, &lock(3, 0, u64::MAX, true)).await?, None, "locks left")
}

async fn an_empty_range_is_refused<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    fails(take(t, ino, &lock(1, 5, 5, true)).await, ErrorKind::Invalid, "lock")?;
    fails(take(t, ino, &lock(1, 6, 5, true)).await, ErrorKind::Invalid, "backwards")
}

async fn unlocking_what_is_not_locked_is_nothing<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    drop_lock(t, ino, &lock(1, 0, 10, true)).await?;
    take(t, ino, &lock(1, 0, 10, true)).await?;
    drop_lock(t, ino, &lock(2, 0, 10, true)).await?;
    fails(take(t, ino, &lock(2, 0, 10, true)).await, ErrorKind::WouldBlock, "another's lock")
}

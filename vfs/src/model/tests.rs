use super::*;
use crate::conformance::{block_on, poll_once};
use crate::{Changes, Cred, Dac, Timestamp};
use std::pin::pin;
use std::time::Duration;

fn root(cred: &Cred) -> Context<'_> {
    Context { cred, dac: Dac::Enforce, op: None }
}

#[test]
fn announced_changes_reach_every_listener_until_the_end() {
    let fs = ModelFs::new(ManualClock::new(0).clock());
    let (mut one, mut two) = (fs.changes(), fs.changes());
    block_on(async {
        let change = Change::Attr(Ino::ROOT);
        fs.announce(&change);
        assert_eq!(one.next().await, Some(change.clone()));
        assert_eq!(two.next().await, Some(change.clone()));
        let mut next = Box::pin(one.next());
        assert!(poll_once(next.as_mut()).await.is_pending());
        fs.announce(&change);
        assert_eq!(next.await, Some(change));
        drop(fs);
        assert_eq!(one.next().await, None);
        assert_eq!(two.next().await, Some(Change::Attr(Ino::ROOT)), "nothing is lost at the end");
        assert_eq!(two.next().await, None);
    });
}

#[test]
fn handles_belong_to_their_file_system() {
    let cred = Cred::root();
    let clock = ManualClock::new(0);
    let (here, there) = (ModelFs::new(clock.clock()), ModelFs::new(clock.clock()));
    block_on(async {
        let handle = here.open(root(&cred), Ino::ROOT, OpenFlags::READ).await.unwrap();
        let at = At::Open(&handle);
        assert!(here.getattr(root(&cred), at).await.is_ok());
        let error = there.getattr(root(&cred), at).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadHandle);
    });
}

#[test]
fn locks_of_a_file_that_is_gone_are_forgotten() {
    let cred = Cred::root();
    let fs = ModelFs::new(ManualClock::new(0).clock());
    let owner = crate::LockOwner { client: crate::ClientId(1), owner: 1 };
    let space = crate::LockSpace::Posix;
    let lock = Lock { owner, space, start: 0, end: 9, exclusive: true, pid: 0 };
    let other = Lock { owner: crate::LockOwner { owner: 2, ..owner }, ..lock };
    block_on(async {
        let (cx, name) = (root(&cred), Name::new(b"f").unwrap());
        let (attr, flags) = (SetAttr::default(), Some(OpenFlags::READ_WRITE));
        let made = fs.create(cx, Ino::ROOT, name, &attr, IfExists::Fail, flags).await.unwrap();
        let ino = made.entry.attr.ino;
        fs.lock(cx, At::Ino(ino), &lock, LockWait::Try).await.unwrap();
        let mut wait = pin!(fs.lock(cx, At::Ino(ino), &other, LockWait::Block));
        assert!(poll_once(wait.as_mut()).await.is_pending());
        fs.unlink(cx, Ino::ROOT, name).await.unwrap();
        assert_eq!(fs.shared.locks.held_count(), 1, "the handle keeps it");
        drop(made);
        assert_eq!(fs.shared.locks.held_count(), 0);
        assert_eq!(wait.await.unwrap_err().kind(), ErrorKind::Stale);
    });
}

#[test]
fn times_are_exactly_the_clocks_or_just_after_the_last() {
    let cred = Cred::root();
    let clock = ManualClock::new(500);
    let fs = ModelFs::new(clock.clock());
    let at = |seconds, nanoseconds| Timestamp { seconds, nanoseconds };
    let chmod = SetAttr { mode: Some(0o700), ..SetAttr::default() };
    let change = || block_on(fs.setattr(root(&cred), At::Ino(Ino::ROOT), &chmod)).unwrap().after;
    assert_eq!(change().ctime, at(500, 1), "the clock stands still");
    clock.advance(Duration::from_millis(1500));
    assert_eq!(change().ctime, at(501, 500_000_000));
    clock.set(at(3, 0));
    let last = change();
    assert_eq!((last.ctime, last.change), (at(501, 500_000_001), 4), "the clock was set back");
}

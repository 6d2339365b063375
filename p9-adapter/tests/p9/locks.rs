//! Locks between clients.

use crate::p9::client::{
    Client, EBADF, EINVAL, O_RDWR, Put, T_FLUSH, T_GETLOCK, T_LOCK, T_REMOVE, Take, WAITS, locking,
};
use crate::p9::support::{ROOT, Served, wait_until};

const READ: u8 = 0;
const WRITE: u8 = 1;
const UNLOCK: u8 = 2;
const SUCCESS: u8 = 0;
const BLOCKED: u8 = 1;
const ALL: (u64, u64) = (0, 0);

fn opened(client: &mut Client, name: &str) -> u32 {
    let fid = client.walked(ROOT, &[name]).unwrap();
    client.open(fid, O_RDWR).unwrap();
    fid
}

/// Two clients with the same file open.
fn two(served: &Served) -> ((Client, u32), (Client, u32)) {
    let (mut one, mut two) = (served.client(), served.client());
    let first = one.file(ROOT, "f", b"data");
    let second = opened(&mut two, "f");
    ((one, first), (two, second))
}

#[test]
fn a_lock_that_is_taken_is_not_waited_for() {
    let served = Served::new();
    let ((mut one, a), (mut two, b)) = two(&served);
    assert_eq!(one.lock(a, WRITE, (10, 10), (1, "one")), Ok(SUCCESS));
    // The flag that asks to wait is always set by this client.
    assert_eq!(two.lock(b, WRITE, (15, 1), (1, "two")), Ok(BLOCKED));
    assert_eq!(two.lock(b, READ, ALL, (1, "two")), Ok(BLOCKED));
    assert_eq!(two.lock(b, WRITE, (20, 0), (1, "two")), Ok(SUCCESS));
    assert_eq!(one.lock(a, UNLOCK, (12, 4), (1, "one")), Ok(SUCCESS));
    assert_eq!(two.lock(b, WRITE, (12, 4), (1, "two")), Ok(SUCCESS));
    assert_eq!(two.lock(b, WRITE, (11, 2), (1, "two")), Ok(BLOCKED));
    assert_eq!(one.lock(a, 3, ALL, (1, "one")), Err(EINVAL));
    assert_eq!(one.lock(a, WRITE, (u64::MAX, 2), (1, "one")), Err(EINVAL));
    assert_eq!(one.lock(ROOT, WRITE, ALL, (1, "one")), Err(EBADF), "not open");
}

#[test]
fn the_holder_is_told() {
    let served = Served::new();
    let ((mut one, a), (mut two, b)) = two(&served);
    one.lock(a, WRITE, (10, 10), (7, "one")).unwrap();
    let ask = |client: &mut Client, fid, kind, start, len, machine: &str| {
        let put = Put::default().u32(fid).u8(kind).u64(start).u64(len).u32(9).s(machine);
        let answer = client.call(T_GETLOCK, &put).unwrap();
        let mut take = Take(&answer);
        (take.u8(), take.u64(), take.u64(), take.u32(), take.s())
    };
    let found = ask(&mut two, b, READ, 0, 0, "two");
    assert_eq!(found, (WRITE, 10, 10, 7, vec![]), "of another machine no name is known");
    let found = ask(&mut one, a, WRITE, 5, 100, "one");
    assert_eq!(found, (WRITE, 10, 10, 7, b"one".to_vec()));
    let none = ask(&mut two, b, WRITE, 20, 5, "two");
    assert_eq!(none, (UNLOCK, 20, 5, 9, b"two".to_vec()));
    two.lock(b, READ, (100, 0), (9, "two")).unwrap();
    assert_eq!(ask(&mut one, a, WRITE, 90, 0, "one").0, READ);
    assert_eq!(ask(&mut one, a, WRITE, 90, 0, "one").2, 0, "to the end");
}

/// Asks as a client does whose program waits, or does not.
fn ask(client: &mut Client, fid: u32, flags: u32) -> u8 {
    let put = locking(fid, (WRITE, flags), ALL, (2, "two"));
    Take(&client.call(T_LOCK, &put).unwrap()).u8()
}

/// The server keeps no line of those who wait: Linux asks again after half a minute.
#[test]
fn who_waits_for_a_lock_is_answered_at_once_and_has_it_by_asking_again() {
    let served = Served::new();
    let ((mut one, a), (mut two, b)) = two(&served);
    assert_eq!(one.lock(a, WRITE, ALL, (1, "one")), Ok(SUCCESS));
    for flags in [WAITS, 0, WAITS] {
        assert_eq!(ask(&mut two, b, flags), BLOCKED);
    }
    assert_eq!(served.probe.count("lock"), 4, "each was tried, and none is left behind");
    assert_eq!(one.lock(a, UNLOCK, ALL, (1, "one")), Ok(SUCCESS));
    // Nobody has it before it is asked for again.
    let mut third = served.client();
    let c = opened(&mut third, "f");
    assert_eq!(third.lock(c, WRITE, ALL, (3, "three")), Ok(SUCCESS));
    assert_eq!(ask(&mut two, b, WAITS), BLOCKED);
    drop(third);
    let two = std::sync::Mutex::new(two);
    wait_until("the lock to be free", || ask(&mut two.lock().unwrap(), b, WAITS) == SUCCESS);
    assert_eq!(one.lock(a, WRITE, ALL, (1, "one")), Ok(BLOCKED));
}

/// Whoever hears that it has a lock lets go of it; who hears nothing would not.
#[test]
fn a_lock_that_is_flushed_is_answered_first() {
    let served = Served::new();
    let ((mut one, a), (mut two, b)) = two(&served);
    for (is_taken, status) in [(true, BLOCKED), (false, SUCCESS)] {
        let kind = if is_taken { WRITE } else { UNLOCK };
        assert_eq!(one.lock(a, kind, ALL, (1, "one")), Ok(SUCCESS));
        served.probe.shut("lock");
        two.send(10, T_LOCK, &locking(b, (WRITE, WAITS), ALL, (2, "two")));
        two.send(11, T_FLUSH, &Put::default().u16(10));
        // Nothing is said of either before it is known.
        two.stat(ROOT).unwrap();
        served.probe.open_up("lock");
        let (answer, flushed) = (two.receive(), two.receive());
        assert_eq!((answer.kind, answer.tag, answer.fields), (T_LOCK + 1, 10, vec![status]));
        assert_eq!((flushed.kind, flushed.tag), (T_FLUSH + 1, 11));
    }
    assert_eq!(two.lock(b, UNLOCK, ALL, (2, "two")), Ok(SUCCESS));
    assert_eq!(one.lock(a, WRITE, ALL, (1, "one")), Ok(SUCCESS), "nothing is left of it");
    // One that was answered before has nothing to be flushed.
    two.send(11, T_FLUSH, &Put::default().u16(10));
    assert_eq!(two.receive().kind, T_FLUSH + 1);
}

#[test]
fn locks_go_with_the_connection() {
    let served = Served::new();
    let ((mut one, a), (mut two, b)) = two(&served);
    assert_eq!(one.lock(a, WRITE, ALL, (1, "m")), Ok(SUCCESS));
    // The same process of the same machine is somebody else on another connection.
    assert_eq!(two.lock(b, WRITE, ALL, (1, "m")), Ok(BLOCKED));
    drop(one);
    let two = std::sync::Mutex::new(two);
    wait_until("the lock to be free", || {
        two.lock().unwrap().lock(b, WRITE, ALL, (1, "m")) == Ok(SUCCESS)
    });
}

#[test]
fn locks_go_with_the_last_fid_they_were_taken_through() {
    let served = Served::new();
    let ((mut one, a), (mut two, b)) = two(&served);
    let again = opened(&mut one, "f");
    assert_eq!(one.lock(a, READ, ALL, (1, "m")), Ok(SUCCESS));
    assert_eq!(one.lock(again, READ, ALL, (1, "m")), Ok(SUCCESS));
    one.clunk(a).unwrap();
    assert_eq!(two.lock(b, WRITE, ALL, (2, "m")), Ok(BLOCKED), "one is left");
    one.clunk(again).unwrap();
    assert_eq!(two.lock(b, WRITE, ALL, (2, "m")), Ok(SUCCESS));
    // What removes a file lets go of its fid as well.
    assert_eq!(two.lock(b, UNLOCK, ALL, (2, "m")), Ok(SUCCESS));
    two.call(T_REMOVE, &Put::default().u32(b)).unwrap();
}

#[test]
fn one_open_file_has_one_lock_whichever_process_changes_it() {
    let served = Served::new();
    let ((mut one, a), (mut two, b)) = two(&served);
    let other = opened(&mut one, "f");
    assert_eq!(one.lock(a, WRITE, ALL, (1, "m")), Ok(SUCCESS));
    // A child goes on with the file of its parent.
    assert_eq!(one.lock(a, READ, ALL, (2, "m")), Ok(SUCCESS));
    assert_eq!(two.lock(b, READ, ALL, (1, "n")), Ok(SUCCESS));
    assert_eq!(one.lock(a, WRITE, ALL, (3, "m")), Ok(BLOCKED));
    assert_eq!(two.lock(b, UNLOCK, ALL, (1, "n")), Ok(SUCCESS));
    assert_eq!(one.lock(a, WRITE, ALL, (3, "m")), Ok(SUCCESS));
    // Ranges are a process's own, and another fid is another file.
    assert_eq!(one.lock(a, WRITE, (5, 5), (4, "m")), Ok(BLOCKED));
    assert_eq!(one.lock(other, WRITE, ALL, (4, "m")), Ok(BLOCKED));
}

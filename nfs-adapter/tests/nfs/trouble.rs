//! When the file system takes long, fails or panics.

use crate::probe::{Busy, Trouble};
use crate::support::{Served, handle};
use crate::wire::{Auth, NFS, Out, Verdict, Wire, call, marked};
use std::io::{ErrorKind as Io, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Semaphore;
use vfs::ErrorKind;

const GETATTR: u32 = 1;
const READ: u32 = 6;
const WRITE: u32 = 7;
const COMMIT: u32 = 21;
/// Calls of one connection that may be under way.
const CALLS_MAX: usize = 256;

fn root() -> Out {
    Out::default().opaque(&handle(1))
}

fn lookup(xid: u32) -> Vec<u8> {
    call(xid, &Auth::root(), (NFS, 3, 3), &root().opaque(b"missing").0)
}

#[expect(clippy::disallowed_methods, reason = "there is nothing to wait for but time")]
fn pause() {
    std::thread::sleep(Duration::from_millis(200));
}

/// Creates a file that holds this; its handle.
fn file_with(wire: &mut Wire, data: &[u8]) -> Vec<u8> {
    let out = root().opaque(b"file").words(&[0, 1, 0o666, 0, 0, 0, 0, 0]);
    assert_eq!(wire.status(&Auth::root(), 8, &out), 0);
    let file = handle(2);
    let out = Out::default().opaque(&file).u64(0).words(&[data.len() as u32, 0]).opaque(data);
    assert_eq!(wire.status(&Auth::root(), WRITE, &out), 0);
    file
}

#[test]
fn slow_calls_do_not_hold_up_fast_ones() {
    let served = Served::new();
    let leave = Arc::new(Semaphore::new(0));
    served.probe.trouble("lookup", Some(Trouble::Wait(Arc::clone(&leave))));
    let mut wire = served.wire();
    for xid in 0..20 {
        wire.send(&lookup(xid));
    }
    for _ in 0..50 {
        assert_eq!(wire.status(&Auth::root(), GETATTR, &root()), 0);
    }
    leave.add_permits(20);
    let mut xids: Vec<_> = (0..20).map(|_| wire.reply().xid).collect();
    xids.sort_unstable();
    assert_eq!(xids, (0..20).collect::<Vec<_>>());
}

#[test]
fn a_connection_with_too_much_under_way_is_not_read_and_loses_nothing() {
    let served = Served::new();
    let leave = Arc::new(Semaphore::new(0));
    served.probe.trouble("lookup", Some(Trouble::Wait(Arc::clone(&leave))));
    let mut wire = served.wire();
    let total = 1000;
    let burst: Vec<u8> = (0..total).flat_map(|xid| marked(&lookup(xid))).collect();
    wire.stream.write_all(&burst).unwrap();
    while served.probe.count("lookup") < CALLS_MAX {
        std::thread::yield_now();
    }
    pause();
    assert_eq!(served.probe.count("lookup"), CALLS_MAX);
    // Others are not concerned.
    assert_eq!(served.wire().status(&Auth::root(), GETATTR, &root()), 0);
    leave.add_permits(total as usize);
    let mut xids: Vec<_> = (0..total)
        .map(|_| {
            let reply = wire.reply();
            assert_eq!(reply.body[..4], 2_u32.to_be_bytes(), "never an error for waiting");
            reply.xid
        })
        .collect();
    xids.sort_unstable();
    assert_eq!(xids, (0..total).collect::<Vec<_>>());
}

#[test]
fn memory_under_way_is_bounded_too() {
    let served = Served::new();
    let mut wire = served.wire();
    let file = file_with(&mut wire, b"x");
    let before = served.probe.count("write");
    let leave = Arc::new(Semaphore::new(0));
    served.probe.trouble("write", Some(Trouble::Wait(Arc::clone(&leave))));
    let data = vec![7; 1 << 20];
    let write = |xid: u32| {
        let out = Out::default().opaque(&file).u64(u64::from(xid) << 20);
        call(xid, &Auth::root(), (NFS, 3, WRITE), &out.words(&[1 << 20, 0]).opaque(&data).0)
    };
    wire.stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut sent = 0;
    let stuck = loop {
        match wire.stream.write_all(&marked(&write(sent))) {
            Ok(()) => sent += 1,
            Err(error) => break error.kind(),
        }
        assert!(sent < 100, "a hundred megabytes were taken");
    };
    assert!(matches!(stuck, Io::WouldBlock | Io::TimedOut), "{stuck}");
    let begun = served.probe.count("write") - before;
    assert!((30..=33).contains(&begun), "{begun} writes of a megabyte under way");
    leave.add_permits(100);
}

#[test]
fn many_slow_readers_cannot_stop_the_runtime() {
    let served = Served::new();
    let mut wire = served.wire();
    let file = file_with(&mut wire, &vec![7; 1 << 20]);
    let read = Out::default().opaque(&file).u64(0).u32(1 << 20);
    let leave = Arc::new(Semaphore::new(0));
    // Reads have to wait, so their replies come from the runtime.
    served.probe.trouble("read", Some(Trouble::Wait(Arc::clone(&leave))));
    let mut lazy: Vec<_> = (0..8).map(|_| served.wire()).collect();
    for wire in &mut lazy {
        for xid in 0..8 {
            wire.send(&call(xid, &Auth::root(), (NFS, 3, READ), &read.0));
        }
    }
    while served.probe.count("read") < 64 {
        std::thread::yield_now();
    }
    leave.add_permits(1000);
    // Nobody reads the replies; others still get theirs by way of the runtime.
    assert_eq!(wire.status(&Auth::root(), READ, &read), 0);
    for wire in &mut lazy {
        for _ in 0..8 {
            assert!(wire.reply().body.ends_with(&[7; 1000]));
        }
    }
}

/// Sends forty calls at once; how many were at `method` at a time, which takes long.
fn most_at_once(
    (served, wire): (&Served, &mut Wire),
    method: &'static str,
    (procedure, arguments): (u32, &Out),
) -> usize {
    let busy = Arc::<Busy>::default();
    served.probe.trouble(method, Some(Trouble::Busy(Arc::clone(&busy))));
    let calls: Vec<u8> = (0..40)
        .flat_map(|xid| marked(&call(xid, &Auth::root(), (NFS, 3, procedure), &arguments.0)))
        .collect();
    wire.stream.write_all(&calls).unwrap();
    for _ in 0..40 {
        assert!(wire.reply().body.starts_with(&[0; 4]), "it worked");
    }
    busy.most.load(Ordering::SeqCst)
}

#[test]
fn what_takes_long_is_shared_out() {
    let served = Served::new();
    let mut wire = served.wire();
    let file = file_with(&mut wire, b"data");
    let range = Out::default().opaque(&file).u64(0).u32(4);
    for (method, procedure) in [("read", READ), ("sync", COMMIT)] {
        // It has to be found out first.
        most_at_once((&served, &mut wire), method, (procedure, &range));
        let most = most_at_once((&served, &mut wire), method, (procedure, &range));
        assert!(most >= 2, "several at a time, though on one connection: {method}");
    }
}

#[test]
fn a_panic_costs_one_call() {
    let served = Served::new();
    let mut wire = served.wire();
    for trouble in [Trouble::Panic, Trouble::PanicLate] {
        served.probe.trouble("lookup", Some(trouble));
        wire.send(&lookup(5));
        let reply = wire.reply();
        assert_eq!((reply.xid, reply.verdict), (5, Verdict::Refused(5)));
        assert_eq!(wire.status(&Auth::root(), GETATTR, &root()), 0);
    }
    // What panicked is not remembered as done.
    served.probe.trouble("make", Some(Trouble::Panic));
    let out = root().opaque(b"dir").words(&[0; 6]);
    let mkdir = call(9, &Auth::root(), (NFS, 3, 9), &out.0);
    wire.send(&mkdir);
    assert_eq!(wire.reply().verdict, Verdict::Refused(5));
    served.probe.trouble("make", None);
    wire.send(&mkdir);
    let reply = wire.reply();
    assert_eq!((reply.verdict, &reply.body[..4]), (Verdict::Success, &[0; 4][..]));
}

#[test]
fn a_store_that_is_out_of_reach_makes_clients_try_again() {
    let served = Served::new();
    let mut wire = served.wire();
    let status = |kind| {
        served.probe.trouble("getattr", Some(Trouble::Fail(kind)));
        served.wire().status(&Auth::root(), GETATTR, &root())
    };
    assert_eq!(status(ErrorKind::Unavailable), 10_008);
    assert_eq!(status(ErrorKind::WouldBlock), 10_008);
    assert_eq!(status(ErrorKind::Corrupt), 5);
    assert_eq!(status(ErrorKind::Quota), 69);
    served.probe.trouble("getattr", None);
    assert_eq!(wire.status(&Auth::root(), GETATTR, &root()), 0);
}

/// What NFS has for "try again later".
const JUKEBOX: u32 = 10_008;

fn waits_shortly(export: &mut tgcryptfs_nfs::Export) {
    export.reads_wait_max = Duration::from_millis(50);
}

#[test]
fn a_read_that_takes_long_comes_again_and_finds_what_went_on_without_it() {
    let served = Served::with(waits_shortly);
    let mut wire = served.wire();
    let file = file_with(&mut wire, b"data");
    let leave = Arc::new(Semaphore::new(0));
    served.probe.trouble("read", Some(Trouble::Wait(Arc::clone(&leave))));
    let read = Out::default().opaque(&file).u64(0).u32(4);
    for _ in 0..3 {
        // A status, and no attributes.
        let told = [JUKEBOX.to_be_bytes(), [0; 4]].concat();
        assert_eq!(wire.nfs(&Auth::root(), READ, &read), told);
    }
    leave.add_permits(3);
    while leave.available_permits() > 2 {
        std::thread::yield_now();
    }
    pause();
    assert_eq!(leave.available_permits(), 2, "one of the three went on");
    let body = wire.nfs(&Auth::root(), READ, &read);
    assert!(body.starts_with(&[0; 4]) && body.ends_with(b"data"));
}

#[test]
fn reads_that_take_long_keep_no_place() {
    let served = Served::with(waits_shortly);
    let mut wire = served.wire();
    let file = file_with(&mut wire, b"data");
    let leave = Arc::new(Semaphore::new(0));
    served.probe.trouble("read", Some(Trouble::Wait(Arc::clone(&leave))));
    let total = 2 * CALLS_MAX as u32;
    let read = |xid: u32| {
        let arguments = Out::default().opaque(&file).u64(xid.into()).u32(10);
        marked(&call(xid, &Auth::root(), (NFS, 3, READ), &arguments.0))
    };
    let burst: Vec<u8> = (0..total).flat_map(read).chain(marked(&lookup(total))).collect();
    wire.stream.write_all(&burst).unwrap();
    let mut xids: Vec<_> = (0..=total)
        .map(|_| {
            let reply = wire.reply();
            let expected = if reply.xid == total { 2 } else { JUKEBOX };
            assert_eq!(reply.body[..4], expected.to_be_bytes(), "call {}", reply.xid);
            reply.xid
        })
        .collect();
    xids.sort_unstable();
    assert_eq!(xids, (0..=total).collect::<Vec<_>>());
    assert_eq!(served.probe.count("read"), total as usize);
    // What goes on is bounded: it holds memory that no connection answers for.
    leave.add_permits(total as usize);
    pause();
    let went_on = total as usize - leave.available_permits();
    assert!((1..=32).contains(&went_on), "{went_on}");
}

#[test]
fn a_write_that_takes_long_is_never_said_not_to_be_done() {
    let served = Served::with(waits_shortly);
    let mut wire = served.wire();
    let file = file_with(&mut wire, b"data");
    let leave = Arc::new(Semaphore::new(0));
    served.probe.trouble("write", Some(Trouble::Wait(Arc::clone(&leave))));
    let write = Out::default().opaque(&file).u64(0).words(&[4, 0]).opaque(b"DATA");
    wire.send(&call(5, &Auth::root(), (NFS, 3, WRITE), &write.0));
    pause();
    // Nothing is said of it, while others are answered.
    assert_eq!(wire.status(&Auth::root(), GETATTR, &root()), 0);
    leave.add_permits(1);
    let reply = wire.reply();
    assert_eq!((reply.xid, &reply.body[..4]), (5, &[0; 4][..]));
}

#[test]
fn stopping_waits_for_what_is_under_way() {
    let served = Served::new();
    let leave = Arc::new(Semaphore::new(0));
    served.probe.trouble("lookup", Some(Trouble::Wait(Arc::clone(&leave))));
    let mut wire = served.wire();
    wire.send(&lookup(5));
    while served.probe.count("lookup") == 0 {
        std::thread::yield_now();
    }
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| served.server.stop());
        pause();
        assert!(!stopping.is_finished(), "a call is under way");
        leave.add_permits(1);
        assert_eq!(wire.reply().xid, 5);
        stopping.join().unwrap();
    });
    assert!(wire.is_ended());
    assert!(std::net::TcpStream::connect(served.addr).is_err());
}

#[test]
fn stopping_does_not_wait_for_ever() {
    let served = Served::new();
    let leave = Arc::new(Semaphore::new(0));
    served.probe.trouble("lookup", Some(Trouble::Wait(leave)));
    let mut wire = served.wire();
    wire.send(&lookup(5));
    while served.probe.count("lookup") == 0 {
        std::thread::yield_now();
    }
    served.server.stop();
    assert!(wire.is_ended(), "without a reply, so that the client asks again");
}

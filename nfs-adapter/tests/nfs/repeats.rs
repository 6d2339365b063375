//! Calls that arrive twice are done once.

use crate::probe::{Probe, Trouble};
use crate::support::{Served, export, handle, policy};
use crate::wire::{Auth, NFS, Out, Wire, call, marked};
use rustix::net::sockopt;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

const MKDIR: u32 = 9;
const LOOKUP: u32 = 3;
const REMOVE: u32 = 12;
const RMDIR: u32 = 13;

fn mkdir(xid: u32, name: &str) -> Vec<u8> {
    let out = Out::default().opaque(&handle(1)).opaque(name.as_bytes());
    call(xid, &Auth::root(), (NFS, 3, MKDIR), &out.words(&[0; 6]).0)
}

/// A connection from this port, which may have been used a moment ago.
fn from_port(port: u16, to: SocketAddr) -> Wire {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    let from = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    rustix::net::bind(&socket, &from).unwrap();
    rustix::net::connect(&socket, &to).unwrap();
    Wire::over(TcpStream::from(socket))
}

/// Breaks the connection off, as a client does that has heard nothing for too long.
fn break_off(Wire { stream, .. }: Wire) -> u16 {
    let port = stream.local_addr().unwrap().port();
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
    port
}

#[test]
fn a_repetition_on_the_same_connection_gets_the_same_reply() {
    let served = Served::new();
    let mut wire = served.wire();
    wire.send(&mkdir(77, "dir"));
    let first = wire.record().unwrap();
    wire.send(&mkdir(77, "dir"));
    assert_eq!(wire.record().unwrap(), first);
    assert_eq!(served.probe.count("make"), 1);
    // Another number is another call.
    wire.send(&mkdir(78, "dir"));
    assert_eq!(wire.reply().body[..4], 17_u32.to_be_bytes());
    assert_eq!(served.probe.count("make"), 2);
    // And so is another body with the same number.
    wire.send(&mkdir(77, "another"));
    assert_eq!(wire.reply().body[..4], [0; 4]);
}

#[test]
fn a_repetition_after_a_lost_connection_gets_the_same_reply() {
    let served = Served::new();
    let mut wire = served.wire();
    wire.send(&mkdir(77, "dir"));
    let first = wire.record().unwrap();
    let port = break_off(wire);
    let mut again = from_port(port, served.addr);
    again.send(&mkdir(77, "dir"));
    assert_eq!(again.record().unwrap(), first);
    assert_eq!(served.probe.count("make"), 1);
    // From another port, it is somebody else's call.
    let mut other = served.wire();
    other.send(&mkdir(77, "dir"));
    assert_eq!(other.reply().body[..4], 17_u32.to_be_bytes());
}

#[test]
fn what_is_under_way_is_not_begun_again_and_is_answered_where_it_is_asked() {
    let served = Served::new();
    let leave = Arc::new(Semaphore::new(0));
    served.probe.trouble("make", Some(Trouble::Wait(Arc::clone(&leave))));
    let mut wire = served.wire();
    wire.send(&mkdir(77, "dir"));
    wire.send(&mkdir(77, "dir"));
    // Something quick shows that both have arrived.
    let none = &Out::default();
    wire.ask(&Auth::None, (NFS, 3, 0), none);
    assert_eq!(served.probe.count("make"), 1);
    let port = break_off(wire);
    let mut again = from_port(port, served.addr);
    again.send(&mkdir(77, "dir"));
    again.ask(&Auth::None, (NFS, 3, 0), none);
    assert_eq!(served.probe.count("make"), 1);
    leave.add_permits(1);
    let reply = again.reply();
    assert_eq!((reply.xid, &reply.body[..4]), (77, &[0; 4][..]));
    again.send(&mkdir(77, "dir"));
    assert_eq!(again.reply().body, reply.body);
    assert_eq!(served.probe.count("make"), 1);
}

/// Sends more than may be under way, as if in one go; how many of it begin.
fn overfill(served: &Served, wire: &mut Wire) -> usize {
    let calls_max = 256;
    let lookup = |xid| {
        let out = Out::default().opaque(&handle(1)).opaque(b"missing");
        marked(&call(xid, &Auth::root(), (NFS, 3, LOOKUP), &out.0))
    };
    let burst: Vec<u8> = (0..calls_max + 50).flat_map(lookup).collect();
    wire.stream.write_all(&burst).unwrap();
    while served.probe.count("lookup") < calls_max as usize {
        std::thread::yield_now();
    }
    calls_max as usize
}

/// What a client sent and nobody read is not done after it has given the connection up:
/// it has asked again by another, and gone on since.
#[test]
fn what_a_full_connection_holds_is_not_done_late() {
    for comes_again in [true, false] {
        let served = Served::new();
        let leave = Arc::new(Semaphore::new(0));
        served.probe.trouble("lookup", Some(Trouble::Wait(Arc::clone(&leave))));
        let mut wire = served.wire();
        let begun = overfill(&served, &mut wire);
        let port = break_off(wire);
        let mut again = if comes_again { from_port(port, served.addr) } else { served.wire() };
        again.ask(&Auth::None, (NFS, 3, 0), &Out::default());
        leave.add_permits(1000);
        // A stop waits until connections have done all that they will do.
        let probe = Arc::clone(&served.probe);
        drop(again);
        served.stop();
        assert_eq!(probe.count("lookup"), begun, "comes again: {comes_again}");
    }
}

#[test]
fn what_may_be_done_again_is_done_again() {
    let served = Served::new();
    let mut wire = served.wire();
    let getattr = call(5, &Auth::root(), (NFS, 3, 1), &Out::default().opaque(&handle(1)).0);
    for _ in 0..3 {
        wire.send(&getattr);
        wire.reply();
    }
    assert_eq!(served.probe.count("getattr"), 3);
    let mut again = from_port(break_off(wire), served.addr);
    again.send(&getattr);
    let reply = again.reply();
    assert_eq!((reply.xid, &reply.body[..4]), (5, &[0; 4][..]));
    assert_eq!(served.probe.count("getattr"), 4);
}

/// What a connection has asked before makes nothing slower: the last of 60,000 calls are
/// answered about as fast as the first. What grew with them would be many times as slow.
#[test]
#[expect(clippy::disallowed_methods, reason = "how fast it is is measured in real time")]
fn many_calls_are_as_fast_as_few() {
    const PART: u32 = 12_000;
    const UNDER_WAY: u32 = 32;
    let served = Served::new();
    let mut wire = served.wire();
    let arguments = Out::default().opaque(&handle(1)).0;
    let getattr = |xid| call(xid, &Auth::root(), (NFS, 3, 1), &arguments);
    (0..UNDER_WAY).for_each(|xid| wire.send(&getattr(xid)));
    let mut took = Vec::new();
    for part in 0..5 {
        let began = Instant::now();
        for xid in part * PART..(part + 1) * PART {
            assert_eq!(wire.reply().body[..4], [0; 4]);
            wire.send(&getattr(xid + UNDER_WAY));
        }
        took.push(began.elapsed());
    }
    println!("{PART} calls took {took:?}");
    // The better of two, since others may use the machine.
    assert!(took[3].min(took[4]) < 5 * took[0].min(took[1]), "{took:?}");
}

#[test]
fn a_failure_is_repeated_too() {
    let served = Served::new();
    let mut wire = served.wire();
    let out = Out::default().opaque(&handle(1)).opaque(b"missing");
    let remove = call(5, &Auth::root(), (NFS, 3, REMOVE), &out.0);
    wire.send(&remove);
    let first = wire.record().unwrap();
    wire.send(&remove);
    assert_eq!(wire.record().unwrap(), first);
    assert_eq!(served.probe.count("unlink"), 1);
}

#[test]
fn what_is_done_but_cannot_be_saved_yet_is_answered_when_it_is_and_not_done_twice() {
    let served = Served::new();
    let mut wire = served.wire();
    served.probe.trouble("sync", Some(Trouble::Fail(vfs::ErrorKind::Unavailable)));
    wire.send(&mkdir(77, "dir"));
    wire.send(&mkdir(77, "dir"));
    while served.probe.count("sync") < 2 {
        std::thread::yield_now();
    }
    served.probe.trouble("sync", None);
    let reply = wire.reply();
    assert_eq!((reply.xid, &reply.body[..4]), (77, &[0; 4][..]));
    wire.send(&mkdir(77, "dir"));
    assert_eq!(wire.reply().body, reply.body);
    assert_eq!(served.probe.count("make"), 1);

    // What cannot be saved at all is no success, also when it is asked again.
    served.probe.trouble("sync", Some(Trouble::Fail(vfs::ErrorKind::NoSpace)));
    wire.send(&mkdir(78, "other"));
    let failed = wire.record().unwrap();
    served.probe.trouble("sync", None);
    wire.send(&mkdir(78, "other"));
    assert_eq!(wire.record().unwrap(), failed);
    assert_eq!(served.probe.count("make"), 2);
    // It is there all the same.
    wire.send(&mkdir(79, "other"));
    assert_eq!(wire.reply().body[..4], 17_u32.to_be_bytes());
}

/// Replies are forgotten with the server, so what was done is then refused as done.
#[test]
fn a_repetition_after_a_restart_is_another_call() {
    let served = Served::new();
    let mut wire = served.wire();
    let out = Out::default().opaque(&handle(1)).opaque(b"gone");
    let rmdir = call(79, &Auth::root(), (NFS, 3, RMDIR), &out.0);
    for request in [mkdir(77, "dir"), mkdir(78, "gone"), rmdir.clone()] {
        wire.send(&request);
        assert_eq!(wire.reply().body[..4], [0; 4]);
    }
    let model = served.stop();
    let again = Served::start(Probe::new(model), export(), policy());
    let mut wire = again.wire();
    wire.send(&mkdir(77, "dir"));
    assert_eq!(wire.reply().body[..4], 17_u32.to_be_bytes());
    wire.send(&rmdir);
    assert_eq!(wire.reply().body[..4], 2_u32.to_be_bytes());
}

#[test]
fn what_was_to_be_tried_later_is_tried_again() {
    let served = Served::new();
    let mut wire = served.wire();
    served.probe.trouble("make", Some(Trouble::Fail(vfs::ErrorKind::Unavailable)));
    wire.send(&mkdir(77, "dir"));
    assert_eq!(wire.reply().body[..4], 10_008_u32.to_be_bytes());
    served.probe.trouble("make", None);
    wire.send(&mkdir(77, "dir"));
    assert_eq!(wire.reply().body[..4], [0; 4]);
}

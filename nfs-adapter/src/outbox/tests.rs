//! Replies over a real socket pair, whose other end reads or does not.

use super::{BYTES_MAX, CALLS_MAX, Outbox, Packet};
use bytes::Bytes;
use listen::Load;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use vfs::Segments;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);

fn pair() -> (Arc<Outbox>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Outbox::new(OwnedFd::from(ours)), theirs)
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).build().unwrap()
}

fn packet(head: &'static [u8], data: &[&'static [u8]]) -> Packet {
    let data: Vec<_> = data.iter().map(|slice| Bytes::from_static(slice)).collect();
    Packet { head: Bytes::from_static(head), data: Segments::from(data), permit: None }
}

fn read(mut stream: &UnixStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn data_follows_its_head_and_is_padded() {
    let (outbox, theirs) = pair();
    outbox.queue(packet(b"head", &[b"one", b"", b"two!!"]));
    outbox.queue(packet(b"next", &[b"abc"]));
    outbox.queue(packet(b"last", &[]));
    outbox.flush();
    assert_eq!(read(&theirs, 24), b"headonetwo!!nextabc\0last");
}

#[test]
fn more_slices_than_a_socket_takes_at_once_all_arrive() {
    let (outbox, theirs) = pair();
    let slices: Vec<_> = (0..2000_u32).map(|at| Bytes::from(at.to_be_bytes().to_vec())).collect();
    let data = Segments::from(slices);
    let reader = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read(&theirs, 8004));
        let packet = Packet { head: Bytes::from_static(b"head"), data, permit: None };
        outbox.queue(packet);
        outbox.flush();
        reader.join().unwrap()
    });
    let numbers: Vec<u8> = (0..2000_u32).flat_map(u32::to_be_bytes).collect();
    assert_eq!(reader[4..], numbers);
}

#[test]
fn a_thread_of_the_runtime_never_waits_for_who_does_not_read() {
    let (outbox, theirs) = pair();
    let runtime = runtime();
    let large: &'static [u8] = vec![7; 4 << 20].leak();
    let (sender, receiver) = channel();
    let (handle, sending) = (runtime.handle().clone(), Arc::clone(&outbox));
    runtime.spawn(async move {
        sending.send(packet(large, &[]), &handle);
        sending.send(packet(b"after", &[]), &handle);
        sender.send(()).unwrap();
    });
    receiver.recv_timeout(LONG).unwrap();
    // All of it comes once somebody reads, in order.
    assert!(read(&theirs, large.len()).iter().all(|byte| *byte == 7));
    assert_eq!(read(&theirs, 5), b"after");
}

#[test]
fn replies_from_many_threads_stay_whole() {
    let (outbox, theirs) = pair();
    let runtime = runtime();
    let handle = runtime.handle().clone();
    let received = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    outbox.send(packet(b"[abcdefgh", &[b"ijk", b"l]"]), &handle);
                }
            });
        }
        // Thirteen bytes, and three of padding for the five of data.
        read(&theirs, 800 * 17)
    });
    assert!(received.chunks(17).all(|whole| whole == b"[abcdefghijkl]\0\0\0"));
}

#[test]
fn calls_wait_for_room_by_number_and_by_bytes() {
    let (outbox, _theirs) = pair();
    let mut permits: Vec<_> = (0..CALLS_MAX).map(|_| outbox.begin(10)).collect();
    let (sender, receiver) = channel();
    let waiting = Arc::clone(&outbox);
    let ask = move || sender.send(waiting.wait_for_room()).unwrap();
    let asking = std::thread::Builder::new().spawn(ask).unwrap();
    assert!(receiver.recv_timeout(SHORT).is_err(), "there is no room");
    permits.pop();
    assert!(receiver.recv_timeout(LONG).unwrap());
    asking.join().unwrap();
    permits.truncate(1);
    permits[0].reserve(BYTES_MAX);
    let (sender, receiver) = channel();
    let waiting = Arc::clone(&outbox);
    let ask = move || sender.send(waiting.wait_for_room()).unwrap();
    let asking = std::thread::Builder::new().spawn(ask).unwrap();
    assert!(receiver.recv_timeout(SHORT).is_err(), "there is no memory");
    // Who waits learns that it is over.
    outbox.finish(Duration::ZERO);
    assert!(!receiver.recv_timeout(LONG).unwrap());
    asking.join().unwrap();
}

#[test]
fn all_connections_have_so_many_bytes_and_each_may_have_one_call() {
    let load = Arc::new(Load::new(1000));
    let connect = || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Outbox::sharing(OwnedFd::from(ours), Arc::clone(&load)), theirs)
    };
    let many: Vec<_> = (0..64).map(|_| connect()).collect();
    let mut first = many[0].0.begin(1);
    assert!(many[0].0.has_room());
    first.reserve(999);
    assert!(!many[0].0.has_room(), "there is no memory");
    // Nobody else has to wait to begin, whatever the others do, and all wait to go on.
    let mut permits = Vec::new();
    for (outbox, _) in &many[1..] {
        assert!(outbox.has_room() && outbox.wait_for_room());
        permits.push(outbox.begin(100));
        assert!(!outbox.has_room());
    }
    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        scope.spawn(|| sender.send(many[1].0.wait_for_room()).unwrap());
        assert!(receiver.recv_timeout(SHORT).is_err(), "there is no memory");
        drop(first);
        // Others still hold too much; this one is woken by nobody but looks.
        permits.truncate(9);
        assert!(receiver.recv_timeout(LONG).unwrap());
    });
    assert!(many.iter().all(|(outbox, _)| outbox.has_room()));
    drop(permits);
    assert_eq!(load.bytes(), 0);
}

#[test]
fn a_reply_holds_its_permit_until_it_is_written() {
    let (outbox, theirs) = pair();
    let permit = Some(outbox.begin(1));
    outbox.queue(Packet { permit, ..packet(b"head", &[]) });
    assert_eq!(outbox.state.lock().calls, 1);
    outbox.flush();
    assert_eq!(outbox.state.lock().calls, 0);
    assert_eq!(read(&theirs, 4), b"head");
}

#[test]
fn when_the_other_side_is_gone_replies_are_dropped() {
    let (outbox, theirs) = pair();
    drop(theirs);
    let permit = Some(outbox.begin(1));
    outbox.queue(Packet { permit, ..packet(b"head", &[]) });
    outbox.flush();
    assert!(!outbox.wait_for_room());
    let permit = Some(outbox.begin(1));
    outbox.queue(Packet { permit, ..packet(b"late", &[]) });
    outbox.flush();
    let state = outbox.state.lock();
    assert_eq!((state.calls, state.bytes), (0, 0));
}

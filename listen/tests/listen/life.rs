//! Panics, and the end.

use crate::support::{LONG, is_served, keep_log, logged, open_policy, start, wait_until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

#[test]
fn a_panic_ends_one_connection_only() {
    keep_log();
    let (listener, _) = start(open_policy());
    let addr = listener.local_addr().unwrap();
    let other = TcpStream::connect(addr).unwrap();
    assert!(is_served(&other));
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(b"P").unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "it is closed");
    wait_until("its place is free", || listener.peers().len() == 1);
    assert!(is_served(&other));
    assert!(is_served(TcpStream::connect(addr).unwrap()));
    assert_eq!(logged("panicked").len(), 1);
}

#[test]
fn answers_under_way_arrive_when_it_stops() {
    let (listener, echo) = start(open_policy());
    let addr = listener.local_addr().unwrap();
    let idle = TcpStream::connect(addr).unwrap();
    assert!(is_served(&idle));
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(b"S").unwrap();
    wait_until("it is being served", || echo.seen.lock().len() == 2);
    std::thread::sleep(Duration::from_millis(100));
    let began = Instant::now();
    listener.stop();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"S");
    assert!(!is_served(&idle));
    assert!(TcpStream::connect(addr).is_err(), "nobody listens any more");
    assert_eq!(std::sync::Arc::strong_count(&echo), 1, "the server is released");
    listener.stop();
}

#[test]
fn a_peer_that_does_not_read_cannot_keep_it_from_stopping() {
    let (listener, echo) = start(open_policy());
    let addr = listener.local_addr().unwrap();
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(b"F").unwrap();
    wait_until("it is being served", || echo.seen.lock().len() == 1);
    std::thread::sleep(Duration::from_millis(100));
    let began = Instant::now();
    drop(listener);
    assert!(began.elapsed() < LONG, "{:?}", began.elapsed());
    assert_eq!(std::sync::Arc::strong_count(&echo), 1, "the server is released");
}

//! Who gets in, and how many.

use crate::support::{
    connect_from, is_served, keep_log, logged, open_policy, start, try_connect_from, wait_until,
};
use std::io::ErrorKind;
use std::net::TcpStream;
use tgcryptfs_listen::Policy;

#[test]
fn s33_only_addresses_on_the_list_get_in() {
    keep_log();
    let allow = vec!["127.0.0.8/30".parse().unwrap()];
    let (listener, echo) = start(Policy { allow, ..open_policy() });
    let addr = listener.local_addr().unwrap();
    assert!(is_served(connect_from(9, addr)));
    assert!(is_served(connect_from(11, addr)));
    for _ in 0..50 {
        assert!(!is_served(connect_from(77, addr)));
    }
    assert_eq!(echo.seen.lock().len(), 2, "a stranger never reaches the server");
    let lines = logged("127.0.0.77");
    assert_eq!(lines.len(), 1, "told, and not fifty times: {lines:?}");
    assert!(lines[0].contains("not on the list"), "{lines:?}");
}

#[test]
fn there_are_never_more_connections_than_may_be() {
    let (listener, _) = start(Policy { connections_max: 3, ..open_policy() });
    let addr = listener.local_addr().unwrap();
    let mut held: Vec<_> = (0..3).map(|_| TcpStream::connect(addr).unwrap()).collect();
    assert!(held.iter().all(is_served));
    assert!(!is_served(TcpStream::connect(addr).unwrap()));
    assert_eq!(listener.peers().len(), 3);
    drop(held.pop());
    wait_until("a place that was left is free", || is_served(TcpStream::connect(addr).unwrap()));
}

#[test]
fn one_peer_cannot_take_all_places() {
    let (listener, _) = start(Policy { connections_per_peer_max: 2, ..open_policy() });
    let addr = listener.local_addr().unwrap();
    let held: Vec<_> = (0..2).map(|_| connect_from(21, addr)).collect();
    assert!(held.iter().all(is_served));
    assert!(!is_served(connect_from(21, addr)));
    assert!(is_served(connect_from(22, addr)));
}

#[test]
fn one_user_cannot_take_all_places_of_the_machine() {
    let policy = Policy { connections_per_peer_max: 2, peer_uids: true, ..open_policy() };
    let (listener, _) = start(policy);
    let addr = listener.local_addr().unwrap();
    let held: Vec<_> = [31, 32].into_iter().map(|last| connect_from(last, addr)).collect();
    assert!(held.iter().all(is_served));
    assert!(!is_served(connect_from(33, addr)), "another address does not make another user");
}

#[test]
fn a_flood_is_turned_away_and_leaves_nothing() {
    keep_log();
    let policy = Policy { connections_max: 8, accepts_per_second_max: 50, ..open_policy() };
    let (listener, echo) = start(policy);
    let addr = listener.local_addr().unwrap();
    let resident = || statm_field(1);
    let flood = |count| {
        let made = (0..count).filter(|_| match try_connect_from(41, addr) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
                false
            }
        });
        assert!(made.count() > count / 2);
    };
    flood(500);
    let before = resident();
    flood(10_000);
    wait_until("all are gone", || listener.peers().is_empty());
    let grown_kib = resident().saturating_sub(before) * 4;
    assert!(grown_kib < 4096, "{grown_kib} KiB for connections that are gone");
    assert!(threads() < 100, "{} threads", threads());
    assert!(echo.seen.lock().len() < 5000, "the rate is bounded");
    assert!(logged("127.0.0.41").len() < 40, "so is what the log is told");
    wait_until("a place when there is time again", || is_served(connect_from(42, addr)));
}

fn statm_field(index: usize) -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(index).unwrap().parse().unwrap()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

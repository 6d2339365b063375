//! The conformance suite through the protocol, over both kinds of sockets.

use crate::p9::remote::Remote;
use crate::p9::support::{MSIZE, Served};
use crate::p9::words::run;
use vfs::Vfs;

#[test]
fn the_model_behind_tcp_passes_the_conformance_suite() {
    let served = Served::new();
    let mut client = served.connect();
    client.version(MSIZE, "9P2000.L");
    run(&Remote::new(client, served.probe.limits()), true);
}

#[test]
fn the_model_behind_a_unix_socket_passes_the_conformance_suite() {
    if !crate::p9::support::is_root() {
        println!("skipped: on a Unix socket only root may act as others");
        return;
    }
    let served = Served::new();
    let mut client = served.connect_unix();
    client.version(MSIZE, "9P2000.L");
    run(&Remote::new(client, served.probe.limits()), false);
}

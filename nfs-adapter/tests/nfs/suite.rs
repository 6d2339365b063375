//! The conformance suite through the protocol: by `nfs3_client`, and by libnfs.

use crate::client::Client;
use crate::libnfs::Program;
use crate::stream::Stream;
use crate::support::Served;
use crate::words::{EXCEPT, run};

/// Bytes of a block of the model.
const BLOCK: u64 = 4096;

const NO_ROOM: &str = "libnfs has 4 KiB for all of such a call, and a target may be that long";

/// What libnfs cannot say besides.
const LIBNFS: &[(&str, &str)] = &[
    ("tree::symbolic_links_keep_their_targets", NO_ROOM),
    ("tree::symbolic_link_targets_have_limits", NO_ROOM),
];

#[test]
fn the_model_behind_nfs_passes_the_conformance_suite() {
    let served = Served::new();
    let addr = served.addr;
    run(&Client::new(move || Stream::tcp(addr)), BLOCK, EXCEPT);
}

#[test]
fn the_model_passes_the_conformance_suite_by_calls_that_libnfs_makes() {
    let served = Served::new();
    let (calls, addr) = (Program::calls(), served.addr);
    let client = Client::new(move || Stream::program(calls.command(addr)));
    run(&client, BLOCK, &[EXCEPT, LIBNFS].concat());
}

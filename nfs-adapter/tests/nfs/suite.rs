//! The conformance suite through the protocol: by `nfs3_client`, and by libnfs.

use crate::client::Client;
use crate::program::Program;
use crate::stream::Stream;
use crate::support::Served;
use crate::words::{EXCEPT, LIBNFS, run};

/// Bytes of a block of the model.
const BLOCK: u64 = 4096;

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

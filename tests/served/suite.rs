//! The conformance suite over an engine that is served.

use crate::p9;
use crate::support::Vault;
use crate::words::{EXCEPT, LIBNFS, run};

/// Bytes of a block of such a vault.
const BLOCK: u64 = 64 << 10;

#[test]
fn the_engine_behind_nfs_passes_the_conformance_suite() {
    let vault = Vault::new();
    let server = vault.nfs();
    run(&server.client(), BLOCK, EXCEPT);
    server.stop();
    vault.check();
}

#[test]
fn the_engine_passes_the_conformance_suite_by_calls_that_libnfs_makes() {
    let vault = Vault::new();
    let server = vault.nfs();
    run(&server.client_by_libnfs(), BLOCK, &[EXCEPT, LIBNFS].concat());
    server.stop();
    vault.check();
}

#[test]
fn the_engine_behind_9p_passes_the_conformance_suite() {
    let vault = Vault::new();
    let server = vault.nine_p();
    p9::words::run(&server.client(&vault), true);
    server.stop();
    vault.check();
}

#[test]
fn the_engine_behind_9p_on_a_unix_socket_passes_the_conformance_suite() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: on a Unix socket only root may act as others");
        return;
    }
    let vault = Vault::new();
    let server = vault.nine_p_on_a_unix_socket();
    p9::words::run(&server.client(&vault), false);
    server.stop();
    vault.check();
}

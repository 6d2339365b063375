//! A server with a store whose weather somebody else makes: `scripts/kernel-clients` lets
//! a kernel mount it.
//!
//! The environment says where: `OUTAGE_DIR`, a directory of its own, `OUTAGE_PROTOCOL` and
//! `OUTAGE_LISTEN`. What the weather is stands in `OUTAGE_DIR/weather`: `fair`, `slow`,
//! `away`, `cold` (fair, and nothing is cached) or `end`. `OUTAGE_DIR/now` says what it is.

use super::weather::Vault;
use listen::{Endpoint, Policy};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Builder;
use zeroize::Zeroizing;

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

#[test]
#[ignore = "a server for scripts/kernel-clients"]
fn serves_in_all_weathers() {
    let dir = PathBuf::from(variable("OUTAGE_DIR"));
    let runtime = Builder::new_multi_thread().enable_time().build().unwrap();
    let vault = runtime.block_on(Vault::new(&dir.join("far")));
    let at = Endpoint::Tcp(TcpListener::bind(variable("OUTAGE_LISTEN")).unwrap());
    let (engine, handle, policy) = (&vault.engine, runtime.handle().clone(), Policy::default());
    let (mut nfs, mut p9) = (None, None);
    match &*variable("OUTAGE_PROTOCOL") {
        "nfs" => {
            let export = nfs_adapter::Export::new(engine.fs_id(), Zeroizing::new([7; 32]));
            let fs = Arc::new(engine.clone());
            nfs = Some(nfs_adapter::Server::start(fs, at, policy, export, handle).unwrap());
        }
        _ => {
            let export = p9_adapter::Export { match_peer_uid: false, ..Default::default() };
            let fs = Arc::new(engine.patient());
            p9 = Some(p9_adapter::Server::start(fs, at, policy, export, handle).unwrap());
        }
    }
    let mut now = String::new();
    while now != "end" {
        std::thread::sleep(Duration::from_millis(20));
        let said = std::fs::read_to_string(dir.join("weather")).unwrap_or_default();
        if said.trim() == now || said.trim().is_empty() {
            continue;
        }
        now = said.trim().to_owned();
        match &*now {
            "slow" => vault.slow(),
            "away" => vault.away(),
            _ => vault.fair(),
        }
        if now == "cold" {
            runtime.block_on(engine.sync()).unwrap();
            engine.clear_cache().unwrap();
        }
        std::fs::write(dir.join("now"), &now).unwrap();
    }
    nfs.inspect(nfs_adapter::Server::stop);
    p9.inspect(p9_adapter::Server::stop);
    runtime.block_on(vault.on_a_new_machine());
    runtime.block_on(engine.close()).unwrap();
    println!("{} calls of the store", vault.calls());
}

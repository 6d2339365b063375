//! The conformance suite over an engine that is served.

use crate::client::Client;
use crate::handles::{FS_ID, KEY};
use crate::p9;
use crate::p9::remote::Remote;
use crate::stream::Stream;
use crate::vault::World;
use crate::words::{EXCEPT, run};
use listen::{Endpoint, Policy};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use tgcryptfs::engine::{Engine, Silent};
use tokio::runtime::{Builder, Runtime};
use vfs::Vfs;
use zeroize::Zeroizing;

/// Bytes of a block of such a vault.
const BLOCK: u64 = 64 << 10;

/// A new vault, its engine, and where both run.
struct Vault {
    runtime: Runtime,
    world: World,
    engine: Engine,
}

impl Vault {
    fn new() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        let world = runtime.block_on(World::new());
        let engine = runtime.block_on(world.open("a"));
        Self { runtime, world, engine }
    }

    /// What the suite left is whole, and another machine finds the same.
    fn check(&self) {
        self.runtime.block_on(async {
            self.engine.sync().await.unwrap();
            let digest = self.engine.state_digest().unwrap();
            self.engine.close().await.unwrap();
            let there = self.world.open("b").await;
            assert_eq!(there.state_digest().unwrap(), digest);
            let report = there.fsck(&Silent).await.unwrap();
            assert!(report.problems.is_empty(), "{:?}", report.problems);
            there.close().await.unwrap();
        });
    }
}

fn endpoint() -> Endpoint {
    Endpoint::Tcp(TcpListener::bind("127.0.0.1:0").unwrap())
}

/// The client has a connection for each user that a case has.
fn policy() -> Policy {
    Policy {
        connections_max: 300,
        connections_per_peer_max: 300,
        accepts_per_second_max: 10_000,
        ..Policy::default()
    }
}

#[test]
fn the_engine_behind_nfs_passes_the_conformance_suite() {
    let vault = Vault::new();
    let (fs, handle) = (Arc::new(vault.engine.clone()), vault.runtime.handle().clone());
    let export = nfs_adapter::Export::new(FS_ID, Zeroizing::new(KEY));
    let server = nfs_adapter::Server::start(fs, endpoint(), policy(), export, handle).unwrap();
    let addr = server.local_addr().unwrap();
    run(&Client::new(move || Stream::tcp(addr)), BLOCK, EXCEPT);
    server.stop();
    vault.check();
}

#[test]
fn the_engine_behind_9p_passes_the_conformance_suite() {
    let vault = Vault::new();
    // As the program serves it: callers wait for the store.
    let (fs, handle) = (Arc::new(vault.engine.patient()), vault.runtime.handle().clone());
    let export = p9_adapter::Export { match_peer_uid: false, ..p9_adapter::Export::default() };
    let server = p9_adapter::Server::start(fs, endpoint(), policy(), export, handle).unwrap();
    let stream = TcpStream::connect(server.local_addr().unwrap()).unwrap();
    let mut client = p9::client::Client::over_tcp(stream);
    client.version(p9::client::MSIZE, "9P2000.L");
    p9::words::run(&Remote::new(client, vault.engine.limits()));
    server.stop();
    vault.check();
}

//! An engine that is served, and clients of it.

use crate::client::Client;
use crate::handles::{FS_ID, KEY};
use crate::p9;
use crate::p9::remote::Remote;
use crate::program::Program;
use crate::stream::Stream;
use crate::vault::World;
use crate::wire::Wire;
use listen::{Endpoint, Policy};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use tempfile::TempDir;
use tgcryptfs::engine::{Engine, Silent};
use tgcryptfs::store::{BlobStore, MemoryStore};
use tokio::runtime::{Builder, Runtime};
use vfs::Vfs;
use zeroize::Zeroizing;

/// A new vault, its engine, and where both run.
pub(crate) struct Vault {
    runtime: Runtime,
    world: World,
    engine: Engine,
}

/// A server of NFS.
pub(crate) struct Nfs {
    server: nfs_adapter::Server,
    addr: SocketAddr,
}

/// A server of 9P.
pub(crate) struct NineP {
    server: p9_adapter::Server,
    place: Place,
}

/// Where a server is.
enum Place {
    Tcp(SocketAddr),
    /// `socket` in a directory of its own.
    Unix(TempDir),
}

fn endpoint() -> Endpoint {
    Endpoint::Tcp(TcpListener::bind("127.0.0.1:0").unwrap())
}

/// The client of NFS has a connection for each user that a case has.
fn policy() -> Policy {
    Policy {
        connections_max: 300,
        connections_per_peer_max: 300,
        accepts_per_second_max: 10_000,
        ..Policy::default()
    }
}

impl Vault {
    pub(crate) fn new() -> Self {
        Self::on(Arc::new(MemoryStore::new()))
    }

    pub(crate) fn on(store: Arc<dyn BlobStore>) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        let world = runtime.block_on(World::on(store));
        let engine = runtime.block_on(world.open("a"));
        Self { runtime, world, engine }
    }

    pub(crate) fn nfs(&self) -> Nfs {
        self.nfs_with(|_| {})
    }

    /// Serves with a changed export.
    pub(crate) fn nfs_with(&self, change: impl FnOnce(&mut nfs_adapter::Export)) -> Nfs {
        let (fs, handle) = (Arc::new(self.engine.clone()), self.runtime.handle().clone());
        let mut export = nfs_adapter::Export::new(FS_ID, Zeroizing::new(KEY));
        change(&mut export);
        let server = nfs_adapter::Server::start(fs, endpoint(), policy(), export, handle).unwrap();
        let addr = server.local_addr().unwrap();
        Nfs { server, addr }
    }

    pub(crate) fn nine_p(&self) -> NineP {
        let endpoint = endpoint();
        let addr = endpoint.local_addr().unwrap();
        self.nine_p_at(endpoint, Place::Tcp(addr))
    }

    pub(crate) fn nine_p_on_a_unix_socket(&self) -> NineP {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
        self.nine_p_at(Endpoint::Unix(listener), Place::Unix(dir))
    }

    /// As the program serves it: callers wait for the store.
    fn nine_p_at(&self, endpoint: Endpoint, place: Place) -> NineP {
        let (fs, handle) = (Arc::new(self.engine.patient()), self.runtime.handle().clone());
        let export = p9_adapter::Export { match_peer_uid: false, ..p9_adapter::Export::default() };
        let server = p9_adapter::Server::start(fs, endpoint, policy(), export, handle).unwrap();
        NineP { server, place }
    }

    /// Uploads everything, so that it has to be fetched again.
    pub(crate) fn forget_what_is_here(&self) {
        self.runtime.block_on(self.engine.sync()).unwrap();
        self.engine.clear_cache().unwrap();
    }

    /// What clients left is whole, and another machine finds the same.
    pub(crate) fn check(&self) {
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

impl Nfs {
    pub(crate) fn client(&self) -> Client {
        let addr = self.addr;
        Client::new(move || Stream::tcp(addr))
    }

    /// A client that knows nothing but bytes.
    pub(crate) fn wire(&self) -> Wire {
        Wire::new(self.addr)
    }

    /// A client whose calls are made by libnfs.
    pub(crate) fn client_by_libnfs(&self) -> Client {
        let (calls, addr) = (Program::calls(), self.addr);
        Client::new(move || Stream::program(calls.command(addr)))
    }

    pub(crate) fn stop(&self) {
        self.server.stop();
    }
}

impl NineP {
    /// No message tells the limits.
    pub(crate) fn client(&self, vault: &Vault) -> Remote {
        let mut client = match &self.place {
            Place::Tcp(addr) => p9::client::Client::over_tcp(TcpStream::connect(addr).unwrap()),
            Place::Unix(dir) => {
                let socket = UnixStream::connect(dir.path().join("socket")).unwrap();
                p9::client::Client::over_unix(socket)
            }
        };
        client.version(p9::client::MSIZE, "9P2000.L");
        Remote::new(client, vault.engine.limits())
    }

    pub(crate) fn stop(&self) {
        self.server.stop();
    }
}

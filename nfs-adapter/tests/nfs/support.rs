//! A served model for one test.

pub(crate) use crate::handles::handle;
use crate::handles::{FS_ID, KEY};
use crate::probe::Probe;
use crate::wire::{Auth, Wire};
use listen::{Endpoint, Policy};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::SystemTime;
use tgcryptfs_nfs::{Export, Server};
use tokio::runtime::{Builder, Runtime};
use vfs::Timestamp;
use vfs::model::{ModelFs, ModelOptions};
use zeroize::Zeroizing;

/// Dropped in this order: the server first.
pub(crate) struct Served {
    pub(crate) server: Server,
    pub(crate) probe: Arc<Probe>,
    pub(crate) addr: SocketAddr,
    runtime: Runtime,
}

#[expect(clippy::disallowed_methods, reason = "any time will do")]
fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp { seconds: now.as_secs() as i64, nanoseconds: now.subsec_nanos() }
}

pub(crate) fn model() -> ModelFs {
    // Everybody may write to the root, so that tests can act as any user.
    let options = ModelOptions { root_mode: 0o1777, ..ModelOptions::default() };
    ModelFs::with_options(Arc::new(now), options)
}

pub(crate) fn export() -> Export {
    Export::new(FS_ID, Zeroizing::new(KEY))
}

pub(crate) fn policy() -> Policy {
    Policy {
        connections_max: 300,
        connections_per_peer_max: 300,
        accepts_per_second_max: 10_000,
        ..Policy::default()
    }
}

impl Served {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// Serves with a changed export.
    pub(crate) fn with(change: impl FnOnce(&mut Export)) -> Self {
        let mut export = export();
        change(&mut export);
        Self::start(Probe::new(model()), export, policy())
    }

    pub(crate) fn start(probe: Probe, export: Export, policy: Policy) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (probe, endpoint) = (Arc::new(probe), Endpoint::Tcp(listener));
        let fs = Arc::clone(&probe);
        let server = Server::start(fs, endpoint, policy, export, runtime.handle().clone()).unwrap();
        assert_eq!(server.local_addr(), Some(addr));
        Self { server, probe, addr, runtime }
    }

    pub(crate) fn wire(&self) -> Wire {
        Wire::new(self.addr)
    }

    /// A connection and the root's handle.
    pub(crate) fn mounted(&self) -> (Wire, Vec<u8>) {
        let mut wire = self.wire();
        let root = wire.mount(&Auth::root(), "/").unwrap();
        (wire, root)
    }

    /// Stops the server, and gives what a new one may serve.
    pub(crate) fn stop(self) -> ModelFs {
        self.server.stop();
        let model = self.probe.model().clone();
        drop(self.server);
        self.runtime.shutdown_background();
        model
    }
}

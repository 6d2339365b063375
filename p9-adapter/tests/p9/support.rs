//! A served model for one test.

use crate::p9::client::Client;
pub(crate) use crate::p9::client::MSIZE;
use crate::p9::probe::Probe;
use listen::{Endpoint, Policy};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tgcryptfs_p9::{Export, Server};
use tokio::runtime::{Builder, Runtime};
use vfs::model::{ManualClock, ModelFs, ModelOptions};

/// Long enough for anything that is not broken.
pub(crate) const LONG: Duration = Duration::from_secs(20);
/// The fid of root's root directory.
pub(crate) const ROOT: u32 = 0;

/// Dropped in this order: the servers first.
pub(crate) struct Served {
    pub(crate) tcp: Server,
    _unix: Server,
    pub(crate) probe: Arc<Probe>,
    pub(crate) path: PathBuf,
    _dir: TempDir,
    _runtime: Runtime,
}

pub(crate) fn model() -> ModelFs {
    // Everybody may write to the root, so that tests can act as any user.
    let options = ModelOptions { root_mode: 0o1777, ..ModelOptions::default() };
    ModelFs::with_options(ManualClock::new(1_800_000_000).ticking(), options)
}

/// Where whoever connects over TCP is believed to be anybody.
pub(crate) fn trusting() -> Export {
    Export { match_peer_uid: false, ..Export::default() }
}

fn policy() -> Policy {
    Policy {
        connections_max: 1000,
        connections_per_peer_max: 1000,
        accepts_per_second_max: 100_000,
        ..Policy::default()
    }
}

impl Served {
    pub(crate) fn new() -> Self {
        Self::with(trusting())
    }

    /// One file system at a port and a path.
    #[expect(clippy::needless_pass_by_value, reason = "tests make one on the spot")]
    pub(crate) fn with(export: Export) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        let probe = Arc::new(Probe::new(model()));
        let start = |endpoint| {
            let (fs, handle) = (Arc::clone(&probe), runtime.handle().clone());
            Server::start(fs, endpoint, policy(), export.clone(), handle).unwrap()
        };
        let tcp = start(Endpoint::Tcp(TcpListener::bind("127.0.0.1:0").unwrap()));
        let unix = start(Endpoint::Unix(UnixListener::bind(&path).unwrap()));
        Self { tcp, _unix: unix, probe, path, _dir: dir, _runtime: runtime }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.tcp.local_addr().unwrap()
    }

    /// A connection on which nothing was said.
    pub(crate) fn connect(&self) -> Client {
        Client::over_tcp(TcpStream::connect(self.addr()).unwrap())
    }

    pub(crate) fn connect_unix(&self) -> Client {
        Client::over_unix(UnixStream::connect(&self.path).unwrap())
    }

    /// A connection that has agreed on a version, with root attached as [`ROOT`].
    pub(crate) fn client(&self) -> Client {
        ready(self.connect())
    }
}

/// Agrees on a version and attaches root.
pub(crate) fn ready(mut client: Client) -> Client {
    assert_eq!(client.version(MSIZE, "9P2000.L"), (MSIZE, b"9P2000.L".to_vec()));
    client.attach(ROOT, 0).unwrap();
    client
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Waits until `condition` holds.
#[expect(clippy::disallowed_methods, reason = "sockets know no simulated time")]
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let step = Duration::from_millis(2);
    for _ in 0..LONG.as_millis() / step.as_millis() {
        if condition() {
            return;
        }
        std::thread::sleep(step);
    }
    panic!("waited in vain: {what}");
}

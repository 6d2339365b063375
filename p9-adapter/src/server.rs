//! The server: a listener whose connections are sessions.

use crate::connection;
use crate::export::Export;
use crate::places::Total;
use crate::session::Session;
use listen::{Endpoint, Listener, Load, Peer, Policy, Serve, Stream};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::runtime::Handle;
use vfs::Vfs;

/// Serves a file system until it is stopped or dropped.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
}

impl Server {
    /// Begins to serve. Requests that have to wait are finished by `runtime`, which must
    /// outlive the server.
    pub fn start<V: Vfs>(
        fs: Arc<V>,
        endpoint: Endpoint,
        policy: Policy,
        export: Export,
        runtime: Handle,
    ) -> io::Result<Self> {
        let total = Total::new(&export.bounds);
        let load = Arc::new(Load::new(export.bounds.all_request_bytes_max));
        let front = Arc::new(Front { fs, export: Arc::new(export), total, load, runtime });
        Ok(Self { listener: Listener::start(endpoint, policy, front)? })
    }

    /// The address it listens on, with the port that was found; `None` for a path.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.local_addr()
    }

    /// Who is connected, the oldest first.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        self.listener.peers()
    }

    /// Stops listening and ends every connection; answers under way get a moment.
    pub fn stop(&self) {
        self.listener.stop();
    }
}

struct Front<V: Vfs> {
    fs: Arc<V>,
    export: Arc<Export>,
    total: Total,
    load: Arc<Load>,
    runtime: Handle,
}

impl<V: Vfs> fmt::Debug for Front<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("export", &self.export).finish_non_exhaustive()
    }
}

impl<V: Vfs> Serve for Front<V> {
    fn connection(&self, id: u64, peer: &Peer, stream: &Stream) {
        log::debug!("connection {id}: {peer} comes");
        let (fs, export) = (Arc::clone(&self.fs), Arc::clone(&self.export));
        let session = Arc::new(Session::new(fs, export, peer.clone(), &self.total));
        connection::serve(&session, stream, &self.runtime, &self.export.bounds, &self.load);
        log::debug!("connection {id}: {peer} is gone");
    }
}

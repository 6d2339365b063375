//! The server as its owner sees it.

use crate::export::Export;
use crate::service::Service;
use listen::{Endpoint, Listener, Peer, Policy};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::runtime::Handle;
use vfs::Vfs;

/// A file system that is being served. Dropping it stops it.
pub struct Server {
    listener: Listener,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("local_addr", &self.local_addr()).finish_non_exhaustive()
    }
}

impl Server {
    /// Serves a file system to whoever `policy` lets in. Calls that have to wait do so on
    /// `runtime`, which has to know time.
    pub fn start<V: Vfs>(
        vfs: Arc<V>,
        endpoint: Endpoint,
        policy: Policy,
        export: Export,
        runtime: Handle,
    ) -> io::Result<Self> {
        let service = Arc::new(Service::new(vfs, export, runtime));
        Ok(Self { listener: Listener::start(endpoint, policy, service)? })
    }

    /// The address it listens on, if it is one of the network.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.local_addr()
    }

    /// Who is connected, the oldest first.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        self.listener.peers()
    }

    /// Takes no more connections and no more calls, waits a while for calls under way, and
    /// closes.
    pub fn stop(&self) {
        self.listener.stop();
    }
}

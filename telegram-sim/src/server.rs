//! The running data centre: listeners, connections, and the switch to turn it off.

use crate::clock::Clock;
use crate::connection::{self, Out};
use crate::wire::AuthKey;
use crate::world::World;
use parking_lot::{Mutex, MutexGuard};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedSender;

/// Where a data centre is, and a key that it knows.
#[derive(Clone)]
pub struct Dc {
    /// Its number.
    pub id: i32,
    /// Where it listens.
    pub address: SocketAddrV4,
    /// A key made for one client.
    pub auth_key: [u8; 256],
}

impl std::fmt::Debug for Dc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dc").field("id", &self.id).field("address", &self.address).finish()
    }
}

/// What listeners and connections share.
pub(crate) struct Shared {
    pub(crate) world: Mutex<World>,
    pub(crate) connections: Mutex<Vec<UnboundedSender<Out>>>,
    is_down: AtomicBool,
    accepted: AtomicU64,
}

/// Fake data centres on threads of their own; gone when dropped.
pub struct Sim {
    shared: Arc<Shared>,
    /// Taken only when dropped.
    runtime: Option<Runtime>,
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sim").finish_non_exhaustive()
    }
}

impl Sim {
    /// Starts a data centre for each number; the first is where files go.
    pub fn start(ids: &[i32]) -> io::Result<Self> {
        Self::start_at(ids, Clock::real())
    }

    /// The same by a clock of the test's own.
    pub fn start_at(ids: &[i32], clock: Clock) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("telegram-sim")
            .enable_all()
            .build()?;
        let bind = |&id: &i32| {
            let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
            match listener.local_addr()? {
                SocketAddr::V4(address) => Ok((id, address, listener)),
                SocketAddr::V6(_) => Err(io::Error::other("asked for IPv4")),
            }
        };
        let bound = ids.iter().map(bind).collect::<io::Result<Vec<_>>>()?;
        let addresses = bound.iter().map(|(id, address, _)| (*id, *address)).collect();
        let shared = Arc::new(Shared {
            world: Mutex::new(World::new(addresses, clock)),
            connections: Mutex::default(),
            is_down: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
        });
        for (id, _, listener) in bound {
            runtime.spawn(accept(shared.clone(), id, listener));
        }
        Ok(Self { shared, runtime: Some(runtime) })
    }

    /// What it remembers, to look at and to change. No request is answered meanwhile.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world.lock()
    }

    /// Keys for one client, as if it had exchanged them; nobody is logged in with them.
    #[must_use]
    pub fn new_keys(&self) -> Vec<Dc> {
        let mut world = self.world();
        let mut dcs = Vec::new();
        for (id, address) in world.addresses().to_vec() {
            let key = AuthKey::random();
            dcs.push(Dc { id, address, auth_key: key.bytes() });
            world.add_key(id, key);
        }
        dcs
    }

    /// Keys for one client that is logged in as `user` at the first data centre.
    #[must_use]
    pub fn logged_in(&self, user: i64) -> Vec<Dc> {
        let dcs = self.new_keys();
        if let Some(home) = dcs.first() {
            self.world().authorize(AuthKey::new(home.auth_key).id(), user);
        }
        dcs
    }

    /// Ends every connection; clients may connect again.
    pub fn disconnect_all(&self) {
        for connection in self.shared.connections.lock().drain(..) {
            // Gone already: as good.
            drop(connection.send(Out::Close));
        }
    }

    /// Out of reach, or back again. Connections end, new ones are closed at once.
    pub fn set_down(&self, is_down: bool) {
        self.shared.is_down.store(is_down, Ordering::SeqCst);
        if is_down {
            self.disconnect_all();
        }
    }

    /// How many connections there have been.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Does not wait, so that a test may end inside a runtime of its own.
            runtime.shutdown_background();
        }
    }
}

async fn accept(shared: Arc<Shared>, dc: i32, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        if shared.is_down.load(Ordering::SeqCst) {
            continue;
        }
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        let shared = shared.clone();
        tokio::spawn(async move {
            if let Err(error) = connection::serve(shared, dc, stream).await {
                log::debug!("a connection to data centre {dc} ended: {error}");
            }
        });
    }
}

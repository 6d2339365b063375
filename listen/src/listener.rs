//! The thread that accepts, and the end of it all.

use crate::endpoint::{Endpoint, Peer, Stream};
use crate::gate::{Gate, Refusal};
use crate::policy::Policy;
use crate::proc_net;
use crate::throttle::Throttle;
use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// How long answers under way may take when the server stops.
const GRACE: Duration = Duration::from_secs(5);
/// How long connections may take to end once they are cut.
const CUT: Duration = Duration::from_secs(2);
/// How long to wait when nothing can be accepted, for want of descriptors or memory.
const TROUBLE_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Serves connections.
pub trait Serve: Send + Sync + 'static {
    /// Serves one connection and returns when it is over: the peer closed it, it said
    /// something that cannot be answered, or reading ended because the server stops.
    ///
    /// Runs on a thread of the connection's own. Numbers are not used again while the
    /// listener lives. The stream is closed after the call.
    fn connection(&self, id: u64, peer: &Peer, stream: &Stream);
}

/// Accepts connections until it is stopped or dropped.
#[derive(Debug)]
pub struct Listener {
    shared: Arc<Shared>,
    acceptor: Mutex<Option<(JoinHandle<()>, UnixStream)>>,
    local_addr: Option<SocketAddr>,
}

#[derive(Debug)]
struct Shared {
    policy: Policy,
    started: Instant,
    gate: Mutex<Gate>,
    /// Signalled when a connection leaves.
    left: Condvar,
    refusals: Mutex<[Throttle; Refusal::COUNT]>,
    troubles: Mutex<Throttle>,
}

impl Listener {
    /// Begins to accept.
    pub fn start(endpoint: Endpoint, policy: Policy, serve: Arc<impl Serve>) -> io::Result<Self> {
        if cfg!(not(target_os = "linux")) && matches!(endpoint, Endpoint::Unix(_)) {
            let message = "who connects to a Unix socket can only be told on Linux";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        endpoint.set_nonblocking()?;
        let local_addr = endpoint.local_addr();
        let (wake, woken) = UnixStream::pair()?;
        let gate = Mutex::new(Gate::new(&policy));
        let shared = Arc::new(Shared {
            policy,
            started: now(),
            gate,
            left: Condvar::new(),
            refusals: Mutex::default(),
            troubles: Mutex::default(),
        });
        let acceptor = Acceptor { endpoint, woken, serve, shared: Arc::clone(&shared) };
        let thread = Builder::new().name("listen".to_owned()).spawn(move || acceptor.run())?;
        Ok(Self { shared, acceptor: Mutex::new(Some((thread, wake))), local_addr })
    }

    /// The address it listens on, with the port that was found; `None` for a path.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }

    /// Who is connected, the oldest first.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        self.shared.gate.lock().peers()
    }

    /// Stops listening, then ends every connection: nothing more is read, answers under
    /// way get a few seconds, what is left is cut. Returns when all are gone, or, if one
    /// hangs in something that no end of a connection ends, without it.
    pub fn stop(&self) {
        let Some((thread, wake)) = self.acceptor.lock().take() else { return };
        drop(wake);
        if thread.join().is_err() {
            log::error!("the thread that accepts connections panicked");
        }
        for (how, patience) in [(Shutdown::Read, GRACE), (Shutdown::Both, CUT)] {
            // A connection that is gone already cannot be shut down, and need not be.
            self.shared.gate.lock().streams().for_each(|stream| drop(stream.shutdown(how)));
            if self.shared.wait_empty(patience) {
                return;
            }
        }
        log::error!("{} connections do not end and are left", self.shared.gate.lock().len());
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

#[expect(clippy::disallowed_methods, reason = "how fast peers connect is no simulated time")]
fn now() -> Instant {
    Instant::now()
}

impl Shared {
    fn elapsed(&self) -> Duration {
        now().duration_since(self.started)
    }

    /// Waits until nobody is in; whether that is so.
    fn wait_empty(&self, patience: Duration) -> bool {
        let until = now() + patience;
        let mut gate = self.gate.lock();
        while gate.len() > 0 {
            if self.left.wait_until(&mut gate, until).timed_out() {
                return gate.len() == 0;
            }
        }
        true
    }

    fn report(&self, refusal: Refusal, peer: &Peer) {
        let passed = self.refusals.lock()[refusal as usize].pass(self.elapsed());
        if let Some(skipped) = passed {
            log::warn!(
                "a connection from {peer} was closed: {} ({skipped} more since the last such line)",
                refusal.text()
            );
        }
    }

    fn report_trouble(&self, error: &io::Error) {
        let passed = self.troubles.lock().pass(self.elapsed());
        if let Some(skipped) = passed {
            log::error!("cannot accept connections: {error} ({skipped} more such errors)");
        }
    }
}

struct Acceptor<S> {
    endpoint: Endpoint,
    /// Closed at the other end when it is to stop.
    woken: UnixStream,
    serve: Arc<S>,
    shared: Arc<Shared>,
}

impl<S: Serve> Acceptor<S> {
    fn run(self) {
        while !self.is_stopped(true, None) {
            match self.endpoint.accept() {
                Ok((stream, peer)) => {
                    // Whatever goes wrong with one connection, others can still come.
                    if catch_unwind(AssertUnwindSafe(|| self.enter(stream, peer))).is_err() {
                        log::error!("a connection was lost by a panic before it began");
                    }
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    // The listener stays ready while it cannot accept: do not spin.
                    self.shared.report_trouble(&error);
                    self.is_stopped(false, Some(&TROUBLE_WAIT));
                }
            }
        }
    }

    /// Waits for a connection, the end, or time to pass; whether it is the end.
    fn is_stopped(&self, for_connections: bool, timeout: Option<&Timespec>) -> bool {
        let mut fds =
            [PollFd::new(&self.woken, PollFlags::IN), PollFd::new(&self.endpoint, PollFlags::IN)];
        let count = if for_connections { 2 } else { 1 };
        match poll(&mut fds[..count], timeout) {
            Ok(_) => !fds[0].revents().is_empty(),
            Err(rustix::io::Errno::INTR) => false,
            Err(errno) => {
                self.shared.report_trouble(&errno.into());
                true
            }
        }
    }

    fn enter(&self, stream: Stream, mut peer: Peer) {
        let shared = &self.shared;
        let stream = Arc::new(stream);
        let server = server_if_here(&peer, &stream);
        if let Peer::Tcp { is_here, .. } = &mut peer {
            *is_here = server.is_some();
        }
        let server = server.filter(|_| shared.policy.peer_uids);
        let now = shared.elapsed();
        let admitted =
            shared.gate.lock().admit(&shared.policy, &peer, &stream, server.is_none(), now);
        let id = match admitted {
            Ok(id) => id,
            Err(refusal) => {
                stream.reset_on_close();
                return shared.report(refusal, &peer);
            }
        };
        let seat = Seat { id, shared: Arc::clone(shared) };
        let connection = Connection { seat, peer, stream, server, serve: Arc::clone(&self.serve) };
        let thread = Builder::new().name(format!("connection-{id}"));
        if let Err(error) = thread.spawn(move || connection.run()) {
            // What was to run there was dropped, and with it the connection.
            shared.report_trouble(&error);
        }
    }
}

/// Our end of a TCP connection, if the other is on this machine too.
fn server_if_here(peer: &Peer, stream: &Stream) -> Option<SocketAddr> {
    let (Peer::Tcp { addr, .. }, Stream::Tcp(stream)) = (peer, stream) else { return None };
    let server = stream.local_addr().ok()?;
    // Whoever comes from the address it connects to is on this machine too, and so is
    // whoever reaches a loopback address, whatever address it comes from.
    let (from, to) = (addr.ip().to_canonical(), server.ip().to_canonical());
    let is_here = from.is_loopback() || to.is_loopback() || from == to || is_own(*addr);
    is_here.then_some(server)
}

/// Whether an address is one of this machine's, of which there may be several: no other
/// can be bound. In doubt it is, and whoever comes from it has to be found.
fn is_own(addr: SocketAddr) -> bool {
    let mut own = match addr.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, 0)),
        // With its scope, if it has one.
        IpAddr::V6(_) => addr,
    };
    own.set_port(0);
    match UdpSocket::bind(own) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
    }
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | ConnectionAborted | ConnectionReset)
}

/// A place at the gate, given back when it is dropped.
struct Seat {
    id: u64,
    shared: Arc<Shared>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.gate.lock().leave(self.id);
        self.shared.left.notify_all();
    }
}

/// Fields are dropped in this order: whoever waits for the last seat finds the server
/// released and the stream closed.
struct Connection<S> {
    serve: Arc<S>,
    stream: Arc<Stream>,
    peer: Peer,
    server: Option<SocketAddr>,
    seat: Seat,
}

impl<S: Serve> Connection<S> {
    fn run(mut self) {
        let shared = Arc::clone(&self.seat.shared);
        if let Err(error) = self.stream.prepare() {
            return log::debug!("{} went away: {error}", self.peer);
        }
        if let Some(server) = self.server
            && let Peer::Tcp { addr, uid, .. } = &mut self.peer
        {
            *uid = proc_net::uid_of(*addr, server);
            let id = self.seat.id;
            let identified = shared.gate.lock().identify(&shared.policy, id, &self.peer);
            if let Err(refusal) = identified {
                self.stream.reset_on_close();
                return shared.report(refusal, &self.peer);
            }
        }
        let Self { seat, peer, stream, serve, .. } = &self;
        log::debug!("connection {} from {peer} begins", seat.id);
        let serving = || serve.connection(seat.id, peer, stream);
        match catch_unwind(AssertUnwindSafe(serving)) {
            Ok(()) => log::debug!("connection {} from {peer} is over", seat.id),
            Err(_) => log::error!("connection {} from {peer} panicked and was closed", seat.id),
        }
        // The gate may hold the stream a moment longer: its peer is told now.
        drop(stream.shutdown(Shutdown::Both));
    }
}

//! The answering side: one thread that accepts, one per connection.

use super::protocol::{EventSink, REQUEST_LEN_MAX, Request, read_line};
use super::{SOCKET_NAME, SocketPath};
use crate::cli::exit::{Code, Failure};
use crate::cli::service::Service;
use crate::env::Env;
use anyhow::Result;
use parking_lot::{Condvar, Mutex};
use rustix::net::sockopt::socket_peercred;
use std::io::{self, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Commands that may wait at the same time; each costs a thread.
const CONNECTIONS_MAX: usize = 16;
/// A connection must say what it wants within this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Whoever does not read events for this long is taken as gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last answers may take to leave when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept, so that a lasting failure costs no processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A running control server.
pub(in crate::cli) struct Server {
    shared: Arc<Shared>,
    run_dir: PathBuf,
    thread: JoinHandle<()>,
}

struct Shared {
    service: Arc<dyn Service>,
    env: Env,
    own_uid: u32,
    is_stopping: AtomicBool,
    connections: Mutex<usize>,
    connection_over: Condvar,
}

impl Server {
    /// Listens in `run_dir`, which is private to this user. A socket left there by a
    /// daemon that died is replaced: the caller holds the lock on the state, so no
    /// other daemon lives.
    pub(in crate::cli) fn start(
        run_dir: &Path,
        service: Arc<dyn Service>,
        env: &Env,
    ) -> io::Result<Self> {
        match std::fs::remove_file(run_dir.join(SOCKET_NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = SocketPath::new(run_dir)?;
        let listener = UnixListener::bind(&socket.path)?;
        // The directory is closed to others, so the moment before this is no gap.
        std::fs::set_permissions(&socket.path, PermissionsExt::from_mode(0o600))?;
        let shared = Arc::new(Shared {
            service,
            env: env.clone(),
            own_uid: rustix::process::geteuid().as_raw(),
            is_stopping: AtomicBool::new(false),
            connections: Mutex::new(0),
            connection_over: Condvar::new(),
        });
        let thread = env.spawn("control", {
            let shared = Arc::clone(&shared);
            move || accept_all(&listener, &shared)
        })?;
        Ok(Self { shared, run_dir: run_dir.to_owned(), thread })
    }

    /// Stops listening, lets the last answers out and removes the socket.
    pub(in crate::cli) fn stop(self) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        // The connection wakes the accepting thread, which then sees the flag.
        let woken = SocketPath::new(&self.run_dir).and_then(|s| UnixStream::connect(&s.path));
        if woken.is_ok() && self.thread.join().is_err() {
            log::error!("the control thread panicked");
        }
        drop(std::fs::remove_file(self.run_dir.join(SOCKET_NAME)));
        let mut connections = self.shared.connections.lock();
        let is_idle = |count: &mut usize| *count > 0;
        self.shared.connection_over.wait_while_for(&mut connections, is_idle, STOP_TIMEOUT);
    }
}

fn accept_all(listener: &UnixListener, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        if shared.is_stopping.load(Ordering::SeqCst) {
            return;
        }
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::warn!("cannot accept a control connection: {error}");
                std::thread::park_timeout(ACCEPT_PAUSE);
                continue;
            }
        };
        if let Err(error) = start_connection(stream, shared) {
            log::warn!("refused a control connection: {error:#}");
        }
    }
}

fn start_connection(stream: UnixStream, shared: &Arc<Shared>) -> Result<()> {
    let peer = socket_peercred(&stream)?.uid.as_raw();
    if !is_allowed(peer, shared.own_uid) {
        anyhow::bail!("user {peer} is neither user {} nor root", shared.own_uid);
    }
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    let Some(guard) = ConnectionGuard::new(shared) else {
        let failure = Failure::new(Code::Busy, "try again: too many commands wait for this mount");
        return Ok(EventSink::new(stream, &shared.env).finish(&Err(failure.into()))?);
    };
    let env = shared.env.clone();
    env.spawn("control-connection", move || {
        if let Err(error) = answer(&stream, &guard.0) {
            log::debug!("a control connection ended early: {error}");
        }
    })?;
    Ok(())
}

fn is_allowed(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

fn answer(stream: &UnixStream, shared: &Shared) -> io::Result<()> {
    let sink = EventSink::new(stream, &shared.env);
    let line = match read_line(&mut BufReader::new(stream), REQUEST_LEN_MAX) {
        Ok(Some(line)) => line,
        Ok(None) => return Ok(()),
        Err(error) => return sink.finish(&Err(not_understood(error))),
    };
    let outcome = match serde_json::from_slice::<Request>(&line) {
        Ok(request) => shared.service.handle(&request, &sink),
        Err(error) => Err(not_understood(error)),
    };
    sink.finish(&outcome)
}

fn not_understood(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> anyhow::Error {
    let message = "use the same version of tgcryptfs as the mount: it does not know this request";
    Failure::because(Code::Usage, message, error).into()
}

/// Counts one connection for as long as it lives, also if its thread panics.
struct ConnectionGuard(Arc<Shared>);

impl ConnectionGuard {
    fn new(shared: &Arc<Shared>) -> Option<Self> {
        let mut count = shared.connections.lock();
        (*count < CONNECTIONS_MAX).then(|| {
            *count += 1;
            Self(Arc::clone(shared))
        })
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        *self.0.connections.lock() -= 1;
        self.0.connection_over.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[test]
    fn only_the_owner_and_root_are_heard() {
        assert!(is_allowed(1000, 1000));
        assert!(is_allowed(0, 1000));
        assert!(!is_allowed(1001, 1000));
        assert!(!is_allowed(1000, 0));
    }
}

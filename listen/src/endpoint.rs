//! Sockets of both kinds behind one type.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

/// How long a peer may be silent before it is asked whether it is there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// Time between questions.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(20);
/// Questions without an answer after which a peer is gone.
const KEEPALIVE_COUNT: u32 = 3;
/// How long sent bytes may go unacknowledged.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(120);

/// Whether the peer of a connection says no more, or reading from it was ended. Bytes
/// that came before may still be there to be read.
#[must_use]
pub fn has_hung_up(socket: impl AsFd) -> bool {
    #[cfg(target_os = "linux")]
    let end = PollFlags::RDHUP;
    #[cfg(not(target_os = "linux"))]
    let end = PollFlags::HUP;
    let mut fds = [PollFd::new(&socket, end)];
    let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
    // Ends and errors are told whether asked for or not.
    matches!(poll(&mut fds, Some(&no_wait)), Ok(1))
}

/// Where to listen: a socket that is bound and listens.
#[derive(Debug)]
pub enum Endpoint {
    /// An address of the network.
    Tcp(TcpListener),
    /// A path. Who may open it is a matter of its mode and of the directories above it.
    Unix(UnixListener),
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Somebody on the network.
    Tcp {
        /// The address it comes from.
        addr: SocketAddr,
        /// Whether it is on this machine, by whichever address it comes.
        is_here: bool,
        /// The user that owns its socket, if that is on this machine and was found.
        uid: Option<u32>,
    },
    /// A process of this machine, as it was when it connected.
    Unix {
        /// Its effective user.
        uid: u32,
        /// Its effective group.
        gid: u32,
        /// Its number, if it can be seen from here.
        pid: Option<i32>,
    },
}

impl Peer {
    /// Whether it reaches us without a network.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Tcp { addr, .. } => addr.ip().to_canonical().is_loopback(),
            Self::Unix { .. } => true,
        }
    }

    /// The user it is, if that is known.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        match self {
            Self::Tcp { uid, .. } => *uid,
            Self::Unix { uid, .. } => Some(*uid),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { addr, uid: None, .. } => write!(f, "{addr}"),
            Self::Tcp { addr, uid: Some(uid), .. } => write!(f, "{addr} (uid {uid})"),
            Self::Unix { uid, pid: Some(pid), .. } => write!(f, "process {pid} (uid {uid})"),
            Self::Unix { uid, pid: None, .. } => write!(f, "uid {uid}"),
        }
    }
}

/// A connection. Reading and writing work through a shared reference.
#[derive(Debug)]
pub enum Stream {
    /// Over the network; `TCP_NODELAY` is set, and a peer that vanished is noticed.
    Tcp(TcpStream),
    /// Through a path.
    Unix(UnixStream),
}

impl Stream {
    /// Ends reading after so long with [`io::ErrorKind::WouldBlock`]; `None`: never.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(timeout),
            Self::Unix(stream) => stream.set_read_timeout(timeout),
        }
    }

    /// Ends writing after so long with [`io::ErrorKind::WouldBlock`]; `None`: never.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(timeout),
            Self::Unix(stream) => stream.set_write_timeout(timeout),
        }
    }

    /// Ends one direction or both; whoever reads or writes there returns.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        }
    }

    /// What every accepted connection gets.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                // Not everywhere does a connection leave the listener's mode behind.
                stream.set_nonblocking(false)?;
                stream.set_nodelay(true)?;
                notice_absence(stream)
            }
            Self::Unix(stream) => stream.set_nonblocking(false),
        }
    }

    /// Makes closing it leave nothing to wait for in the kernel.
    pub(crate) fn reset_on_close(&self) {
        if let Self::Tcp(stream) = self {
            // Otherwise the connection is closed in the ordinary way.
            let _ = sockopt::set_socket_linger(stream, Some(Duration::ZERO));
        }
    }
}

/// A machine that was switched off must not keep a connection for ever.
fn notice_absence(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_COUNT)?;
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED_MAX.as_millis() as u32)?;
    Ok(())
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).read(buffer),
            Stream::Unix(stream) => (&mut &*stream).read(buffer),
        }
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).read_vectored(buffers),
            Stream::Unix(stream) => (&mut &*stream).read_vectored(buffers),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).write(bytes),
            Stream::Unix(stream) => (&mut &*stream).write(bytes),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).write_vectored(slices),
            Stream::Unix(stream) => (&mut &*stream).write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

impl Endpoint {
    /// The address, if it is one of the network.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.set_nonblocking(true),
            Self::Unix(listener) => listener.set_nonblocking(true),
        }
    }

    /// The next connection and who made it; of TCP peers nothing but the address is known
    /// yet.
    pub(crate) fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, addr) = listener.accept()?;
                Ok((Stream::Tcp(stream), Peer::Tcp { addr, is_here: false, uid: None }))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                let peer = unix_peer(&stream)?;
                Ok((Stream::Unix(stream), peer))
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn unix_peer(stream: &UnixStream) -> io::Result<Peer> {
    let peer = sockopt::socket_peercred(stream)?;
    let pid = rustix::process::Pid::as_raw(Some(peer.pid));
    let pid = Some(pid).filter(|pid| *pid > 0);
    Ok(Peer::Unix { uid: peer.uid.as_raw(), gid: peer.gid.as_raw(), pid })
}

/// Whoever cannot be told apart is not let in.
#[cfg(not(target_os = "linux"))]
fn unix_peer(_: &UnixStream) -> io::Result<Peer> {
    Err(io::ErrorKind::Unsupported.into())
}

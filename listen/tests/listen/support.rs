//! A server that echoes, clients, and what the log was told.

use parking_lot::Mutex;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};
use tgcryptfs_listen::{Endpoint, Listener, Peer, Policy, Serve, Stream};

pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Echoes bytes. An `S` is answered late, a `P` is a panic, an `F` floods.
#[derive(Default)]
pub(crate) struct Echo {
    pub(crate) seen: Mutex<Vec<(u64, Peer)>>,
}

impl Serve for Echo {
    fn connection(&self, id: u64, peer: &Peer, mut stream: &Stream) {
        self.seen.lock().push((id, peer.clone()));
        let mut byte = [0];
        while stream.read(&mut byte).is_ok_and(|count| count == 1) {
            match byte[0] {
                b'S' => std::thread::sleep(Duration::from_millis(500)),
                b'P' => std::panic::panic_any("asked for"),
                b'F' => while stream.write_all(&[0; 65536]).is_ok() {},
                _ => {}
            }
            if stream.write_all(&byte).is_err() {
                return;
            }
        }
    }
}

/// Room for everybody.
pub(crate) fn open_policy() -> Policy {
    Policy {
        allow: Vec::new(),
        users: Vec::new(),
        connections_max: 100,
        connections_per_peer_max: 100,
        accepts_per_second_max: 100_000,
        peer_uids: false,
    }
}

pub(crate) fn start_at(addr: &str, policy: Policy) -> (Listener, Arc<Echo>) {
    let echo = Arc::new(Echo::default());
    let endpoint = Endpoint::Tcp(TcpListener::bind(addr).unwrap());
    (Listener::start(endpoint, policy, Arc::clone(&echo)).unwrap(), echo)
}

pub(crate) fn start(policy: Policy) -> (Listener, Arc<Echo>) {
    start_at("127.0.0.1:0", policy)
}

/// A connection from 127.0.0.`last`.
pub(crate) fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    try_connect_from(last, to).unwrap()
}

/// The same; it may be reset before it is made.
pub(crate) fn try_connect_from(last: u8, to: SocketAddr) -> std::io::Result<TcpStream> {
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&fd, &SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)))?;
    connect(&fd, &to)?;
    Ok(TcpStream::from(fd))
}

/// Whether the server answers.
pub(crate) fn is_served(mut stream: impl Read + Write) -> bool {
    let mut byte = [0];
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut byte).is_ok() && byte == *b"x"
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < until, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        LINES.lock().push(record.args().to_string());
    }
    fn flush(&self) {}
}

/// Begins to keep what the log is told.
pub(crate) fn keep_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Log).unwrap();
        log::set_max_level(log::LevelFilter::Info);
    });
}

/// Lines with this text.
pub(crate) fn logged(text: &str) -> Vec<String> {
    LINES.lock().iter().filter(|line| line.contains(text)).cloned().collect()
}

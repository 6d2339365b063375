//! The control socket: how other commands talk to the mount daemon of a vault.
//!
//! The socket lies in the vault's state directory, so it belongs to one vault of one
//! home directory. It speaks one JSON value per line: a request, then events until
//! `done` or `failed`.
//!
//! Invariants: only the daemon's own user and root are heard; a line has a length
//! limit on both sides; a connection that says nothing is closed; the number of
//! connections is bounded.

mod client;
pub mod protocol;
mod record;
mod server;

pub(super) use client::Client;
pub(super) use protocol::{EventSink, NoResult, Request, read_events};
pub use record::MountRecord;
pub(super) use record::all_mounts;
pub(super) use server::Server;

use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

const SOCKET_NAME: &str = "control.sock";

/// Longest path a socket address holds, with room for its final zero.
const SOCKET_PATH_LEN_MAX: usize = 100;

/// A path to the socket that is short enough for a socket address.
///
/// Home directories may be deep; through the descriptor of its directory any socket
/// has a short name.
struct SocketPath {
    path: PathBuf,
    _dir: Option<OwnedFd>,
}

impl SocketPath {
    fn new(run_dir: &Path) -> io::Result<Self> {
        let path = run_dir.join(SOCKET_NAME);
        if path.as_os_str().len() <= SOCKET_PATH_LEN_MAX {
            return Ok(Self { path, _dir: None });
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(run_dir, flags, Mode::empty())?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET_NAME}", dir.as_raw_fd()));
        Ok(Self { path, _dir: Some(dir) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::{Code, Failure};
    use crate::cli::progress::Silent;
    use crate::cli::service::Service;
    use crate::engine::Progress;
    use crate::env::Env;
    use parking_lot::Mutex;
    use serde_json::{Value, json};
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    /// Answers `status`, fails `cache_clear`, works on `sync`.
    struct Fake;

    impl Service for Fake {
        fn handle(&self, request: &Request, progress: &dyn Progress) -> anyhow::Result<Value> {
            match request {
                Request::Status => Ok(json!({"dirty_bytes": 7})),
                Request::Sync { is_full } => {
                    progress.begin("uploading", Some(10));
                    progress.advance(4);
                    progress.advance(6);
                    progress.end();
                    Ok(json!({"full": is_full}))
                }
                _ => {
                    let cause = io::Error::other("the disk says no");
                    Err(Failure::because(Code::LocalState, "free some space", cause).into())
                }
            }
        }
    }

    #[derive(Default)]
    struct Recorder(Mutex<Vec<String>>);

    impl Progress for Recorder {
        fn begin(&self, what: &str, total: Option<u64>) {
            self.0.lock().push(format!("begin {what} {total:?}"));
        }
        fn advance(&self, n: u64) {
            self.0.lock().push(format!("advance {n}"));
        }
        fn end(&self) {
            self.0.lock().push("end".to_owned());
        }
    }

    fn start() -> (tempfile::TempDir, Server) {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path(), Arc::new(Fake), &Env::real()).unwrap();
        (dir, server)
    }

    #[test]
    fn requests_are_answered_and_failures_keep_their_code() {
        let (dir, server) = start();
        let call = |request: Request| Client::connect(dir.path()).unwrap().call(&request, &Silent);
        assert_eq!(call(Request::Status).unwrap(), json!({"dirty_bytes": 7}));
        let failure = call(Request::CacheClear).unwrap_err();
        assert_eq!(failure.code(), Code::LocalState);
        let lines = crate::cli::exit::lines_of(&failure.into());
        assert_eq!(lines, ["free some space", "the disk says no"]);
        server.stop();
        assert!(Client::connect(dir.path()).is_none());
    }

    #[test]
    fn progress_arrives_in_full() {
        let (dir, server) = start();
        let seen = Recorder::default();
        let request = Request::Sync { is_full: true };
        let value = Client::connect(dir.path()).unwrap().call(&request, &seen).unwrap();
        assert_eq!(value, json!({"full": true}));
        let seen = seen.0.into_inner();
        assert_eq!(seen.first().unwrap(), "begin uploading Some(10)");
        assert_eq!(seen.last().unwrap(), "end");
        let advanced: u64 =
            seen.iter().filter_map(|s| s.strip_prefix("advance ")?.parse::<u64>().ok()).sum();
        assert_eq!(advanced, 10);
        server.stop();
    }

    #[test]
    fn garbage_is_refused_and_the_server_lives_on() {
        let (dir, server) = start();
        let path = dir.path().join(SOCKET_NAME);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let long = vec![b'x'; 200_000];
        for garbage in
            [&b"hello\n"[..], b"{\"request\":\"format_disk\"}\n", b"\xff\xfe\n", b"\n", &long]
        {
            let mut stream = UnixStream::connect(&path).unwrap();
            // The server may close its side before it has read everything.
            drop(stream.write_all(garbage));
            drop(stream.shutdown(std::net::Shutdown::Write));
            let mut answer = String::new();
            drop(BufReader::new(&stream).read_line(&mut answer));
            assert!(answer.is_empty() || answer.contains("\"failed\""), "{answer}");
        }
        let value = Client::connect(dir.path()).unwrap().call(&Request::Status, &Silent).unwrap();
        assert_eq!(value, json!({"dirty_bytes": 7}));
        server.stop();
    }

    #[test]
    fn a_deep_directory_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let server = Server::start(&deep, Arc::new(Fake), &Env::real()).unwrap();
        assert!(Client::connect(&deep).unwrap().call(&Request::Status, &Silent).is_ok());
        server.stop();
    }

    #[test]
    fn a_socket_nobody_listens_on_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        drop(std::os::unix::net::UnixListener::bind(dir.path().join(SOCKET_NAME)).unwrap());
        assert!(Client::connect(dir.path()).is_none());
        let server = Server::start(dir.path(), Arc::new(Fake), &Env::real()).unwrap();
        assert!(Client::connect(dir.path()).is_some());
        server.stop();
    }

    #[test]
    fn a_server_that_vanishes_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let listener =
            std::os::unix::net::UnixListener::bind(dir.path().join(SOCKET_NAME)).unwrap();
        let server = Env::real()
            .spawn("vanishing", move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
            })
            .unwrap();
        let client = Client::connect(dir.path()).unwrap();
        assert!(client.call(&Request::Status, &Silent).is_err());
        server.join().unwrap();
    }
}

//! The asking side.

use super::SocketPath;
use super::protocol::{NoResult, Request, read_events, write_line};
use crate::cli::exit::{Code, Failure, OrFail};
use crate::engine::Progress;
use serde_json::Value;
use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A connection to a mount daemon, for one request.
#[derive(Debug)]
pub(in crate::cli) struct Client {
    stream: UnixStream,
}

impl Client {
    /// Connects to the daemon with this run directory; `None` if none listens.
    pub(in crate::cli) fn connect(run_dir: &Path) -> Option<Self> {
        let socket = SocketPath::new(run_dir).ok()?;
        UnixStream::connect(&socket.path).ok().map(|stream| Self { stream })
    }

    /// Sends a request and waits for its result, however long it takes.
    pub(in crate::cli) fn call(
        self,
        request: &Request,
        progress: &dyn Progress,
    ) -> Result<Value, Failure> {
        write_line(&mut &self.stream, request)
            .or_fail(Code::Other, "try again: the mount ended before it was asked")?;
        read_events(&mut BufReader::new(&self.stream), progress).map_err(|reason| match reason {
            NoResult::Failed(failure) => failure,
            NoResult::Broken(error) => {
                let message = "look into the log of the mount: it ended before it answered";
                Failure::because(Code::Other, message, error)
            }
        })
    }
}

//! What untrusted bytes meet, for fuzz targets: whole connections without a network.

use crate::buffers::RECORD_MAX;
use crate::export::Export;
use crate::record::Incoming;
use crate::rpc;
use crate::service::Service;
use crate::xdr::{Decoder, Encoder};
use listen::Peer;
use std::fmt;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use vfs::{Ino, Vfs};
use zeroize::Zeroizing;

/// How long a reply may wait to be read by somebody who reads all at the end.
const PATIENCE: Duration = Duration::from_millis(20);

/// A server and the one client it has.
pub struct Target<V> {
    service: Service<V>,
    runtime: Runtime,
}

impl<V> fmt::Debug for Target<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").finish_non_exhaustive()
    }
}

impl<V: Vfs> Target<V> {
    /// Serves `fs` with keys that are known.
    pub fn new(fs: V) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_time().build()?;
        let export = Export::new([1; 16], Zeroizing::new([2; 32]));
        let service = Service::new(Arc::new(fs), export, runtime.handle().clone());
        Ok(Self { service, runtime })
    }

    /// The handle of an inode, valid or not.
    pub fn handle(&self, ino: u64) -> Vec<u8> {
        let ino = Ino::new(ino).unwrap_or(Ino::ROOT);
        self.service.core().handles.handle(ino).to_vec()
    }

    /// The record of a call by root.
    pub fn call(program: u32, procedure: u32, arguments: &[u8]) -> Vec<u8> {
        let mut call = Encoder::default();
        for word in [7, 0, 2, program, 3, procedure, rpc::AUTH_SYS] {
            call.u32(word);
        }
        call.opaque(&[0; 20]);
        call.u32(0);
        call.u32(0);
        call.fixed(arguments);
        let call = call.into_vec();
        let mark = call.len() as u32 | rpc::LAST_FRAGMENT;
        [&mark.to_be_bytes()[..], &call].concat()
    }

    /// What comes back for everything a client sends.
    pub fn answers(&self, sent: &[u8]) -> io::Result<Vec<u8>> {
        let (ours, mut theirs) = UnixStream::pair()?;
        ours.set_write_timeout(Some(PATIENCE))?;
        let peer = Peer::Unix { uid: 0, gid: 0, pid: None };
        // An input that is cut off is no failure.
        let _ = self.service.exchange(&peer, OwnedFd::from(ours), sent);
        let mut answers = Vec::new();
        theirs.read_to_end(&mut answers)?;
        Ok(answers)
    }

    /// Ends the server.
    pub fn stop(self) {
        self.runtime.shutdown_background();
    }
}

/// Takes a stream apart: records, and the header of each call.
pub fn stream(bytes: &[u8]) {
    let mut incoming = Incoming::new(bytes, Arc::default());
    while let Ok(Some(record)) = incoming.next() {
        assert!(record.bytes().len() <= RECORD_MAX, "a record is longer than it may be");
        let mut rest = Decoder::new(record.bytes());
        if rpc::call_number(&mut rest).is_ok() {
            let _ = rpc::call(&mut rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Target;
    use vfs::model::{ManualClock, ModelFs};

    #[test]
    fn a_call_is_answered_as_over_a_network() {
        let target = Target::new(ModelFs::new(ManualClock::new(5).clock())).unwrap();
        let handle = target.handle(1);
        let mut arguments = vec![0, 0, 0, handle.len() as u8];
        arguments.extend(&handle);
        arguments.resize(arguments.len().next_multiple_of(4), 0);
        let call = Target::<ModelFs>::call(100_003, 1, &arguments);
        let answers = target.answers(&[&call[..], &call, &call[..9]].concat()).unwrap();
        assert_eq!(answers.len(), 2 * (28 + 4 + 84));
        assert_eq!(answers[24..32], [0; 8], "accepted, and it worked");
        target.stop();
    }
}

//! The connection to the kernel: requests come out of it, replies go into it.

use crate::wire::{Body, notice};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Bytes in front of every reply.
const REPLY_HEADER_LEN: usize = 16;

/// The kernel's end of a mount.
#[derive(Debug)]
pub(crate) struct Device(OwnedFd);

impl Device {
    /// Takes over a connection that a mount was made with.
    pub(crate) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        // Reading never waits, so that the reader can choose how to wait.
        let flags = rustix::fs::fcntl_getfl(&descriptor)?;
        rustix::fs::fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK)?;
        Ok(Self(descriptor))
    }

    /// The next request, if there is one now.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> rustix::io::Result<Option<usize>> {
        loop {
            match rustix::io::read(&self.0, &mut *buffer) {
                Ok(len) => return Ok(Some(len)),
                Err(Errno::AGAIN) => return Ok(None),
                // Interrupted, or the request was withdrawn while it was read.
                Err(Errno::INTR | Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Sleeps until there is a request.
    pub(crate) fn wait(&self) -> rustix::io::Result<()> {
        self.poll(None).map(drop)
    }

    /// Whether a request is waiting now.
    pub(crate) fn has_more(&self) -> bool {
        self.poll(Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap_or(true)
    }

    fn poll(&self, timeout: Option<&Timespec>) -> rustix::io::Result<bool> {
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], timeout) {
            Ok(count) => Ok(count > 0),
            Err(Errno::INTR) => Ok(true),
            Err(errno) => Err(errno),
        }
    }

    fn send(&self, unique: u64, error: i32, parts: [&[u8]; 2]) -> io::Result<()> {
        let len = REPLY_HEADER_LEN + parts[0].len() + parts[1].len();
        let len = u32::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let header = Body::with_capacity(REPLY_HEADER_LEN);
        let header = header.u32(len).u32(error.cast_unsigned()).u64(unique);
        let slices = [header.as_bytes(), parts[0], parts[1]].map(IoSlice::new);
        rustix::io::writev(&self.0, &slices)?;
        Ok(())
    }

    /// Makes the kernel forget attributes, and data from `offset` on unless that is
    /// negative; no length means to the end.
    pub(crate) fn forget_inode(&self, ino: u64, offset: i64, len: i64) -> io::Result<()> {
        let (offset, len) = (offset.cast_unsigned(), len.cast_unsigned());
        let body = Body::default().u64(ino).u64(offset).u64(len);
        self.send(0, notice::INVAL_INODE, [body.as_bytes(), &[]])
    }

    /// Makes the kernel forget a name.
    pub(crate) fn forget_name(&self, dir: u64, name: &[u8]) -> io::Result<()> {
        let body = Body::default().u64(dir).u32(name.len() as u32).u32(0).bytes(name).zeros(1);
        self.send(0, notice::INVAL_ENTRY, [body.as_bytes(), &[]])
    }
}

/// The one answer to one request.
#[derive(Debug)]
pub(crate) struct Reply {
    device: Arc<Device>,
    /// `None` once it is sent.
    unique: Option<u64>,
}

impl Reply {
    pub(crate) fn new(device: Arc<Device>, unique: u64) -> Self {
        Self { device, unique: Some(unique) }
    }

    fn send(mut self, error: i32, parts: [&[u8]; 2]) {
        let Some(unique) = self.unique.take() else { return };
        match self.device.send(unique, error, parts) {
            Ok(()) => {}
            // Nobody waits any more: the caller was killed, or the mount is gone.
            Err(error) => log::debug!("a reply was not taken: {error}"),
        }
    }

    /// Answers.
    pub(crate) fn body(self, body: &Body) {
        self.send(0, [body.as_bytes(), &[]]);
    }

    /// Answers with data.
    pub(crate) fn data(self, data: &[u8]) {
        self.send(0, [data, &[]]);
    }

    /// Answers that it is done.
    pub(crate) fn done(self) {
        self.send(0, [&[], &[]]);
    }

    /// Answers with an error number.
    pub(crate) fn refuse(self, errno: i32) {
        self.send(-errno, [&[], &[]]);
    }

    /// Nobody waits for an answer to this request.
    pub(crate) fn unwanted(mut self) {
        self.unique = None;
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(unique) = self.unique.take() {
            let _ = self.device.send(unique, -libc::EIO, [&[], &[]]);
        }
    }
}

/// A request's bytes, in a buffer that is used again.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    spare: Mutex<Vec<Vec<u8>>>,
}

/// Buffers that are kept when nobody needs them.
const SPARE_MAX: usize = 8;

impl Buffers {
    /// A buffer of `len` bytes.
    pub(crate) fn take(&self, len: usize) -> Vec<u8> {
        self.spare.lock().pop().unwrap_or_else(|| vec![0; len])
    }

    fn give_back(&self, buffer: Vec<u8>) {
        let mut spare = self.spare.lock();
        if spare.len() < SPARE_MAX {
            spare.push(buffer);
        }
    }

    /// Data that lies in `buffer`: taken over with the buffer if it is most of it,
    /// copied otherwise.
    pub(crate) fn lend(
        self: &Arc<Self>,
        buffer: &mut Vec<u8>,
        range: std::ops::Range<usize>,
    ) -> bytes::Bytes {
        if range.len() < buffer.len() / 4 * 3 {
            return bytes::Bytes::copy_from_slice(&buffer[range]);
        }
        let fresh = self.take(buffer.len());
        let buffer = std::mem::replace(buffer, fresh);
        bytes::Bytes::from_owner(Lent { buffer, range, home: Arc::clone(self) })
    }
}

struct Lent {
    buffer: Vec<u8>,
    range: std::ops::Range<usize>,
    home: Arc<Buffers>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[self.range.clone()]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.buffer));
    }
}

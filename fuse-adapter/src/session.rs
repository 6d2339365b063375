//! Reads requests and has them answered, until the mount is over.
//!
//! What a request costs on Linux is mostly waking: the thread that serves it, then the
//! one that asked, each on a core that has gone to sleep meanwhile. So there is one
//! reader at a time. It answers what is quick itself, then looks for the next request
//! for a moment before it sleeps, if the last one followed as quickly. The turn goes to
//! the next thread before something that takes long, or when more requests are waiting
//! than one. Measured on two virtual cores, a round trip takes a quarter of the time.

use crate::device::{Buffers, Device, Reply};
use crate::service::Service;
use crate::wire::{Arguments, Header, Opcode, REQUEST_OVERHEAD};
use parking_lot::{Mutex, MutexGuard};
use rustix::io::Errno;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vfs::Vfs;

/// For how long the next request is looked for before the reader sleeps.
const LOOK_FOR: Duration = Duration::from_micros(100);
/// A request that comes within this time after the last answer, our own waking up
/// included, was sent by somebody who waits for answers.
const SOON: Duration = Duration::from_micros(200);
/// Data of this length takes as long as a few wake-ups.
const LONG_LEN: u32 = 64 << 10;

/// The loop between the kernel and a [`Service`].
pub(crate) struct Session<V: Vfs> {
    device: Arc<Device>,
    service: Service<V>,
    buffers: Arc<Buffers>,
    /// Whoever holds it reads.
    turn: Mutex<Turn>,
    /// Set when no more requests will come.
    is_over: AtomicBool,
    buffer_len: usize,
}

/// What the reader knows.
#[derive(Debug)]
struct Turn {
    /// Whether the last request came soon after the one before.
    is_busy: bool,
}

impl<V: Vfs> Session<V> {
    /// Agrees with the kernel on what is spoken.
    pub(crate) fn start(device: Device, service: Service<V>) -> io::Result<Self> {
        let buffer_len = service.write_max() as usize + REQUEST_OVERHEAD;
        let session = Self {
            device: Arc::new(device),
            service,
            buffers: Arc::default(),
            turn: Mutex::new(Turn { is_busy: false }),
            is_over: AtomicBool::new(false),
            buffer_len,
        };
        let mut buffer = session.buffers.take(buffer_len);
        loop {
            let len = session.next(&mut session.turn.lock(), &mut buffer)?;
            let (header, arguments) = Arguments::of(&buffer[..len]).map_err(|_| {
                io::Error::new(io::ErrorKind::InvalidData, "the kernel's first request is cut off")
            })?;
            let reply = Reply::new(Arc::clone(&session.device), header.unique);
            if header.opcode != Opcode::Init {
                let text = format!("the kernel began with {:?}", header.opcode);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            if session.service.init(arguments, reply)? {
                return Ok(session);
            }
        }
    }

    /// The way to tell the kernel something unasked.
    pub(crate) fn device(&self) -> Arc<Device> {
        Arc::clone(&self.device)
    }

    /// Serves with `threads` threads until the mount is over.
    pub(crate) fn run(self, threads: usize) -> io::Result<()> {
        let can_look = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
        std::thread::scope(|scope| {
            let mut others = Vec::new();
            for number in 1..threads {
                let thread = std::thread::Builder::new().name(format!("fuse-{number}"));
                match thread.spawn_scoped(scope, || self.serve(can_look)) {
                    Ok(started) => others.push(started),
                    Err(error) if number > 1 => log::warn!("fewer threads serve: {error}"),
                    Err(error) => {
                        self.is_over.store(true, Ordering::Release);
                        return Err(error);
                    }
                }
            }
            let mut result = self.serve(can_look);
            for thread in others {
                let ended = thread.join().unwrap_or_else(|_| Err(io::Error::other("a panic")));
                result = result.and(ended);
            }
            result
        })
    }

    fn serve(&self, can_look: bool) -> io::Result<()> {
        let mut buffer = self.buffers.take(self.buffer_len);
        let mut turn = None;
        loop {
            let mut reader = turn.take().unwrap_or_else(|| self.turn.lock());
            if self.is_over.load(Ordering::Acquire) {
                return Ok(());
            }
            let len = match self.following(&mut reader, &mut buffer, can_look) {
                Ok(len) => len,
                Err(error) => {
                    self.is_over.store(true, Ordering::Release);
                    // The usual end: the mount was taken off, by whomever.
                    return if error == Errno::NODEV { Ok(()) } else { Err(error.into()) };
                }
            };
            let Ok((header, rest)) = Arguments::of(&buffer[..len]) else {
                log::error!("the kernel sent a request of {len} bytes that is cut off");
                continue;
            };
            if !is_long(&header, rest) && !self.device.has_more() {
                turn = Some(reader);
            } else {
                MutexGuard::unlock_fair(reader);
            }
            self.answer(header, &mut buffer, len);
        }
    }

    /// Waits for the next request by sleeping.
    fn next(&self, _: &mut Turn, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        loop {
            if let Some(len) = self.device.receive(buffer)? {
                return Ok(len);
            }
            self.device.wait()?;
        }
    }

    /// Waits for the next request, awake at first if that is likely to be worth it.
    #[expect(clippy::disallowed_methods, reason = "how long to stay awake is no simulated time")]
    fn following(
        &self,
        turn: &mut Turn,
        buffer: &mut [u8],
        can_look: bool,
    ) -> rustix::io::Result<usize> {
        if let Some(len) = self.device.receive(buffer)? {
            return Ok(len);
        }
        let since = Instant::now();
        while can_look && turn.is_busy && since.elapsed() < LOOK_FOR {
            std::hint::spin_loop();
            if let Some(len) = self.device.receive(buffer)? {
                return Ok(len);
            }
        }
        let len = self.next(turn, buffer)?;
        turn.is_busy = since.elapsed() < SOON;
        Ok(len)
    }

    fn answer(&self, header: Header, buffer: &mut Vec<u8>, len: usize) {
        let reply = Reply::new(Arc::clone(&self.device), header.unique);
        let request = Request { header, buffer, len, buffers: &self.buffers };
        self.service.answer(request, reply);
    }
}

/// A request as it was read.
pub(crate) struct Request<'a> {
    pub(crate) header: Header,
    buffer: &'a mut Vec<u8>,
    len: usize,
    buffers: &'a Arc<Buffers>,
}

impl Request<'_> {
    /// What follows the header.
    pub(crate) fn arguments(&self) -> Arguments<'_> {
        let parsed = Arguments::of(&self.buffer[..self.len]);
        parsed.map_or_else(|_| Arguments::default(), |(_, arguments)| arguments)
    }

    /// The last `len` bytes.
    pub(crate) fn take_data(self, len: usize) -> Option<bytes::Bytes> {
        let start = self.len.checked_sub(len)?;
        Some(self.buffers.lend(self.buffer, start..self.len))
    }
}

/// Whether others should not have to wait for this one.
fn is_long(header: &Header, arguments: Arguments<'_>) -> bool {
    match header.opcode {
        // Both begin alike: handle, place, length.
        Opcode::Read | Opcode::Write => arguments.transfer_len() > LONG_LEN,
        Opcode::Sync | Opcode::SyncDir | Opcode::Copy | Opcode::Allocate | Opcode::Seek => true,
        _ => false,
    }
}

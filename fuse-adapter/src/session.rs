//! Reads requests and has them answered, until the mount is over.
//!
//! What a request costs on Linux is mostly waking: the thread that serves it, then the
//! one that asked, each on a core that has gone to sleep meanwhile. So there is one
//! reader at a time. It answers what is quick itself, then looks for the next request
//! for a moment before it sleeps, if the last one followed as quickly. The turn goes to
//! the next thread before something that takes long, going by the last of its kind; that
//! one sleeps until something comes.

mod turn;

use crate::device::{Buffers, Device, Reply};
use crate::service::Service;
use crate::wire::{Arguments, Header, Opcode, REQUEST_OVERHEAD};
use rustix::io::Errno;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;
use turn::{Turn, Turns};
use vfs::Vfs;

/// For how long after an answer the next request is looked for before the reader sleeps.
const LOOK_FOR_NS: u64 = 100_000;
/// A request that comes within this time after the last answer, our own waking up
/// included, was sent by somebody who waits for answers.
const SOON_NS: u64 = 200_000;
/// Data of this length takes as long as a few wake-ups.
const LONG_LEN: u32 = 64 << 10;
/// What takes this long lets others in.
const LONG_NS: u64 = 300_000;
/// What takes this long lets those in who wait already.
const WAKING_NS: u64 = 50_000;
/// Kinds of requests; the highest number known, and room.
const OPCODES_MAX: usize = 64;

/// The loop between the kernel and a [`Service`].
pub(crate) struct Session<V: Vfs> {
    device: Arc<Device>,
    service: Service<V>,
    buffers: Arc<Buffers>,
    /// Whose turn it is to read.
    turns: Turns,
    /// Whether the last request came soon after an answer.
    is_busy: AtomicBool,
    /// When the last answer was given, nanoseconds since `started`.
    answered_ns: AtomicU64,
    /// How long requests of each kind take, on average of the last few, nanoseconds.
    expected_ns: [AtomicU64; OPCODES_MAX],
    started: Instant,
    /// Whether somebody looks for the next request without sleeping.
    is_looking: AtomicBool,
    /// Set when no more requests will come.
    is_over: AtomicBool,
    buffer_len: usize,
}

impl<V: Vfs> Session<V> {
    /// Agrees with the kernel on what is spoken.
    pub(crate) fn start(device: Device, service: Service<V>) -> io::Result<Self> {
        let buffer_len = service.write_max() as usize + REQUEST_OVERHEAD;
        let session = Self {
            device: Arc::new(device),
            service,
            buffers: Arc::default(),
            turns: Turns::default(),
            is_busy: AtomicBool::new(false),
            answered_ns: AtomicU64::new(0),
            expected_ns: std::array::from_fn(|_| AtomicU64::new(0)),
            started: now(),
            is_looking: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            buffer_len,
        };
        let mut buffer = session.buffers.take(buffer_len);
        loop {
            let len = session.next(&session.turns.take(), &mut buffer)?;
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
        let (mut kept, mut can_look_now) = (None, false);
        loop {
            let len = match self.following(&mut kept, &mut buffer, can_look_now) {
                Ok(Some(len)) => len,
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.is_over.store(true, Ordering::Release);
                    // The usual end: the mount was taken off, by whomever; or it was while a
                    // request was on its way here, which nobody waits for any more.
                    let is_gone = matches!(error, Errno::NODEV | Errno::CONNABORTED);
                    return if is_gone { Ok(()) } else { Err(error.into()) };
                }
            };
            can_look_now = can_look;
            let Ok((header, rest)) = Arguments::of(&buffer[..len]) else {
                log::error!("the kernel sent a request of {len} bytes that is cut off");
                continue;
            };
            if self.is_for_others_too(&header, rest) {
                kept = None;
            }
            self.answer(header, &mut buffer, len);
        }
    }

    /// Serves what has come already.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn serve_now(&self) -> io::Result<()> {
        let mut buffer = self.buffers.take(self.buffer_len);
        while let Some(len) = self.device.receive(&mut buffer)? {
            if let Ok((header, rest)) = Arguments::of(&buffer[..len]) {
                self.is_for_others_too(&header, rest);
                self.answer(header, &mut buffer, len);
            }
        }
        Ok(())
    }

    /// Waits for the next request by sleeping.
    fn next(&self, _: &Turn<'_>, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        loop {
            if let Some(len) = self.device.receive(buffer)? {
                return Ok(len);
            }
            self.device.wait()?;
        }
    }

    /// Looks for the next request without sleeping, one thread at a time. What goes wrong
    /// is for whoever has the turn to find.
    fn look(&self, buffer: &mut [u8]) -> Option<usize> {
        if self.is_looking.swap(true, Ordering::Acquire) {
            return None;
        }
        let found = loop {
            match self.device.receive(buffer) {
                Ok(Some(len)) => break Some(len),
                Err(_) => break None,
                Ok(None) => {}
            }
            if !self.is_busy.load(Ordering::Relaxed) || self.idle_ns() >= LOOK_FOR_NS {
                break None;
            }
            std::hint::spin_loop();
        };
        self.is_looking.store(false, Ordering::Release);
        found
    }

    /// Waits for the next request; `None` if there will be none. Whoever has just answered
    /// stays awake at first if that is likely to be worth it, whosever turn it is: who
    /// waits for a long answer asks on when it is there.
    fn following<'a>(
        &'a self,
        turn: &mut Option<Turn<'a>>,
        buffer: &mut [u8],
        can_look: bool,
    ) -> rustix::io::Result<Option<usize>> {
        if can_look && let Some(len) = self.look(buffer) {
            return Ok(Some(len));
        }
        let turn = turn.get_or_insert_with(|| self.turns.take());
        if self.is_over.load(Ordering::Acquire) {
            return Ok(None);
        }
        let len = self.next(turn, buffer)?;
        self.is_busy.store(self.idle_ns() < SOON_NS, Ordering::Relaxed);
        Ok(Some(len))
    }

    fn time_ns(&self) -> u64 {
        u64::try_from(now().duration_since(self.started).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Time since the last answer.
    fn idle_ns(&self) -> u64 {
        self.time_ns().saturating_sub(self.answered_ns.load(Ordering::Relaxed))
    }

    /// Whether another thread should read while this one is answered.
    fn is_for_others_too(&self, header: &Header, arguments: Arguments<'_>) -> bool {
        if is_large(header, arguments) {
            return true;
        }
        match self.expected_of(header.opcode).load(Ordering::Relaxed) {
            LONG_NS.. => true,
            // Longer than it takes to wake another thread.
            WAKING_NS.. => self.device.has_more(),
            _ => false,
        }
    }

    fn expected_of(&self, opcode: Opcode) -> &AtomicU64 {
        &self.expected_ns[opcode.number() as usize % OPCODES_MAX]
    }

    fn answer(&self, header: Header, buffer: &mut Vec<u8>, len: usize) {
        let reply = Reply::new(Arc::clone(&self.device), header.unique);
        let request = Request { header, buffer, len, buffers: &self.buffers };
        let is_large = is_large(&header, request.arguments());
        let began_ns = self.time_ns();
        self.service.answer(request, reply);
        let ended_ns = self.time_ns();
        self.answered_ns.store(ended_ns, Ordering::Relaxed);
        if is_large {
            return;
        }
        let expected = self.expected_of(header.opcode);
        let before = expected.load(Ordering::Relaxed);
        expected.store((7 * before + (ended_ns - began_ns)) / 8, Ordering::Relaxed);
    }
}

/// Whether much data comes or goes.
fn is_large(header: &Header, arguments: Arguments<'_>) -> bool {
    let is_transfer = matches!(header.opcode, Opcode::Read | Opcode::Write);
    // Both begin alike: handle, place, length.
    is_transfer && arguments.transfer_len() > LONG_LEN
}

#[expect(clippy::disallowed_methods, reason = "how long to stay awake is no simulated time")]
fn now() -> Instant {
    Instant::now()
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

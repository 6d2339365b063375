//! The sending half of a connection, and how much of it may be under way.
//!
//! Replies come from the thread that reads the connection and from the runtime, in any
//! order. Whoever finds nobody writing writes, and takes along what others bring
//! meanwhile. The connection's own thread may wait for the socket. A thread of the
//! runtime may not: if the other side does not read, a thread for blocking work waits.
//!
//! A call is under way from when it is read until its reply is written. If there are too
//! many, or they hold too much memory, of the one connection or of all together, the
//! connection is not read until some are done.
//! If the client gives it up meanwhile, what it sent and nobody read is left unread: it
//! has asked again by another connection, and may have gone on since.

use crate::xdr::{padded, padding};
use bytes::Bytes;
use listen::{Load, has_hung_up};
use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use vfs::Segments;

/// Calls of one connection under way.
pub(crate) const CALLS_MAX: usize = 256;
/// Bytes of calls and replies of one connection under way.
pub(crate) const BYTES_MAX: usize = 32 << 20;
/// Bytes of calls and replies of all connections of a server under way.
pub(crate) const ALL_BYTES_MAX: usize = 256 << 20;
/// How often whoever waits for room looks whether the client is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often whoever waits for other connections looks: they tell nobody.
const LOOK_AT_OTHERS_EVERY: Duration = Duration::from_millis(10);
/// Slices given to the socket at once; systems allow 1024.
const SLICES_MAX: usize = 512;

/// A reply on its way out.
#[derive(Debug)]
pub(crate) struct Packet {
    /// Everything up to the data, the record's mark included.
    pub(crate) head: Bytes,
    /// File data at the end, which gets padded.
    pub(crate) data: Segments,
    /// Its call is under way until this is dropped.
    #[expect(dead_code, reason = "only held")]
    pub(crate) permit: Option<Permit>,
}

impl Packet {
    /// A reply without data that belongs to no call under way.
    pub(crate) fn from_head(head: Bytes) -> Self {
        Self { head, data: Segments::default(), permit: None }
    }
}

/// The sending half of a connection.
pub(crate) struct Outbox {
    socket: OwnedFd,
    state: Mutex<State>,
    changed: Condvar,
    /// What all connections of the server have under way.
    load: Arc<Load>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Packet>,
    /// Somebody has a [`Sending`].
    is_writing: bool,
    /// Nothing can be sent any more.
    is_closed: bool,
    calls: usize,
    bytes: usize,
}

impl State {
    fn is_full(&self) -> bool {
        self.calls >= CALLS_MAX || self.bytes >= BYTES_MAX
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// A call that is under way.
#[derive(Debug)]
pub(crate) struct Permit {
    outbox: Arc<Outbox>,
    bytes: usize,
}

impl Permit {
    /// Counts bytes that the call holds besides.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.outbox.load.add(bytes);
        self.outbox.state.lock().bytes += bytes;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.outbox.load.remove(self.bytes);
        let mut state = self.outbox.state.lock();
        state.calls -= 1;
        state.bytes -= self.bytes;
        drop(state);
        self.outbox.changed.notify_all();
    }
}

impl Outbox {
    /// The half of a connection that has the server for itself.
    #[cfg(test)]
    pub(crate) fn new(socket: OwnedFd) -> Arc<Self> {
        Self::sharing(socket, Arc::new(Load::new(ALL_BYTES_MAX)))
    }

    /// The half of a connection that is one of those with this load.
    pub(crate) fn sharing(socket: OwnedFd, load: Arc<Load>) -> Arc<Self> {
        Arc::new(Self { socket, state: Mutex::default(), changed: Condvar::new(), load })
    }

    /// Whether no other call may begin. One may if there is none: its end waits for nobody
    /// else.
    fn is_full(&self, state: &State) -> bool {
        state.is_full() || (state.calls > 0 && self.load.is_full())
    }

    /// Begins a call that holds this many bytes.
    pub(crate) fn begin(self: &Arc<Self>, bytes: usize) -> Permit {
        self.load.add(bytes);
        let mut state = self.state.lock();
        state.calls += 1;
        state.bytes += bytes;
        Permit { outbox: Arc::clone(self), bytes }
    }

    /// Whether another call may begin now.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.state.lock();
        !state.is_closed && !self.is_full(&state)
    }

    /// Waits until another call may begin; false if none is to be answered any more.
    pub(crate) fn wait_for_room(&self) -> bool {
        let mut state = self.state.lock();
        while !state.is_closed && self.is_full(&state) {
            let step = if state.is_full() { LOOK_EVERY } else { LOOK_AT_OTHERS_EVERY };
            let waited = self.changed.wait_for(&mut state, step);
            if waited.timed_out() && has_hung_up(&self.socket) {
                return false;
            }
        }
        !state.is_closed && !has_hung_up(&self.socket)
    }

    /// Waits until every call is answered, but not for ever, and closes.
    pub(crate) fn finish(&self, patience: Duration) {
        let mut state = self.state.lock();
        let is_open = |state: &mut State| !state.is_closed && state.calls > 0;
        let _ = self.changed.wait_while_for(&mut state, is_open, patience);
        drop(state);
        self.close();
    }

    /// Ends the connection: nothing more is read from it, and nothing sent.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        let unsent = std::mem::take(&mut state.queue);
        drop(state);
        // Whoever reads the connection is to notice.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        self.changed.notify_all();
        // Permits lock the state when they are dropped.
        drop(unsent);
    }

    /// Puts a reply in line without sending it.
    pub(crate) fn queue(&self, packet: Packet) {
        let mut state = self.state.lock();
        if state.is_closed {
            drop(state);
            drop(packet);
        } else {
            state.queue.push_back(packet);
        }
    }

    /// Sends what is in line, waiting for the socket if need be.
    pub(crate) fn flush(self: &Arc<Self>) {
        if let Some(mut sending) = self.start() {
            sending.run(Patience::Waits);
        }
    }

    /// Sends a reply from a thread of the runtime, which must not wait.
    pub(crate) fn send(self: &Arc<Self>, packet: Packet, runtime: &Handle) {
        self.queue(packet);
        let Some(mut sending) = self.start() else { return };
        if !sending.run(Patience::None) {
            runtime.spawn_blocking(move || sending.run(Patience::Waits));
        }
    }

    /// The right to write, if there is something to be written and nobody does.
    fn start(self: &Arc<Self>) -> Option<Sending> {
        let mut state = self.state.lock();
        if state.is_writing || state.queue.is_empty() {
            return None;
        }
        state.is_writing = true;
        let packets = std::mem::take(&mut state.queue);
        Some(Sending { outbox: Arc::clone(self), packets, sent: 0, is_done: false })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    None,
    Waits,
}

/// The right to write to the socket, and what is being written.
struct Sending {
    outbox: Arc<Outbox>,
    packets: VecDeque<Packet>,
    /// Bytes of the first packet that are out.
    sent: usize,
    is_done: bool,
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.is_done {
            // The runtime ended before a reply was out; half of one may be.
            self.outbox.close();
        }
    }
}

impl Sending {
    /// Writes until nothing is left; false if the socket takes no more for now.
    fn run(&mut self, patience: Patience) -> bool {
        loop {
            while !self.packets.is_empty() {
                match self.write(patience) {
                    Ok(count) => self.advance(count),
                    Err(Errno::AGAIN) if patience == Patience::None => return false,
                    Err(Errno::INTR) => {}
                    Err(errno) => {
                        log::debug!("a reply could not be sent: {}", io::Error::from(errno));
                        self.outbox.close();
                        self.is_done = true;
                        return true;
                    }
                }
            }
            let mut state = self.outbox.state.lock();
            if state.queue.is_empty() {
                state.is_writing = false;
                self.is_done = true;
                return true;
            }
            self.packets = std::mem::take(&mut state.queue);
        }
    }

    fn write(&self, patience: Patience) -> rustix::io::Result<usize> {
        const PADDING: [u8; 3] = [0; 3];
        let mut slices = Vec::with_capacity(self.packets.len().min(SLICES_MAX) + 8);
        let mut skip = self.sent;
        let mut add = |bytes| {
            let bytes: &[u8] = bytes;
            let skipped = skip.min(bytes.len());
            skip -= skipped;
            if skipped < bytes.len() && slices.len() < SLICES_MAX {
                slices.push(IoSlice::new(&bytes[skipped..]));
            }
        };
        for packet in &self.packets {
            add(&packet.head);
            packet.data.as_slices().iter().for_each(|slice| add(slice));
            add(&PADDING[..padding(packet.data.len())]);
        }
        let mut flags = SendFlags::NOSIGNAL;
        if patience == Patience::None {
            flags |= SendFlags::DONTWAIT;
        }
        sendmsg(&self.outbox.socket, &slices, &mut SendAncillaryBuffer::default(), flags)
    }

    fn advance(&mut self, count: usize) {
        self.sent += count;
        while let Some(packet) = self.packets.front() {
            let len = packet.head.len() + padded(packet.data.len());
            if self.sent < len {
                break;
            }
            self.sent -= len;
            self.packets.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;

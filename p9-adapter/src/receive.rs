//! Cuts what comes from a socket into messages.
//!
//! Small messages are gathered: one call may bring several. A large one is a write; its
//! bytes go from the socket into memory of its own, where they stay until the file
//! system is done with them.

use crate::wire::{HEADER_LEN, Message};
use bytes::Bytes;
use listen::{Probation, Stream};
use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::io;
use std::sync::Arc;

/// Messages up to this length are gathered.
const SMALL_LEN: usize = 16 << 10;
/// Memory of this size is dear: the system hands it out page by page.
const DEAR_LEN: usize = 128 << 10;
/// Pieces of it that are kept when nobody needs them.
const SPARE_MAX: usize = 4;

/// The receiving side of a connection.
pub(crate) struct Receiver<'a> {
    stream: &'a Stream,
    buffer: Vec<u8>,
    /// Where the next message begins.
    start: usize,
    spares: Arc<Spares>,
    /// Of a sender who may be a stranger.
    probation: Option<&'a Probation>,
}

fn violation(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl<'a> Receiver<'a> {
    pub(crate) fn new(stream: &'a Stream) -> Self {
        let buffer = Vec::with_capacity(SMALL_LEN);
        Self { stream, buffer, start: 0, spares: Arc::default(), probation: None }
    }

    /// Receives no more from somebody who has been a stranger for too long. How often that
    /// is looked at is for the stream's timeout to say.
    pub(crate) fn watch(&mut self, probation: &'a Probation) {
        self.probation = Some(probation);
    }

    /// The next message, of at most `max` bytes; `None` at the end.
    pub(crate) fn next(&mut self, max: u32) -> io::Result<Option<Message>> {
        let len = loop {
            let here = &self.buffer[self.start..];
            if let Some((len, ..)) = Message::header(here) {
                break len;
            }
            let is_between = here.is_empty();
            if !self.fill()? {
                return if is_between { Ok(None) } else { Err(violation("a message is cut off")) };
            }
        };
        // Before a byte is allocated for it.
        if len > max || (len as usize) < HEADER_LEN {
            return Err(violation("a message is too long or too short"));
        }
        let bytes = if len as usize <= SMALL_LEN {
            self.small(len as usize)?
        } else {
            self.large(len as usize)?
        };
        Message::of(bytes).map(Some).ok_or_else(|| violation("a message is not as long as it says"))
    }

    /// Whether the next message is here already, so that it need not be waited for.
    pub(crate) fn has_message(&self) -> bool {
        let here = &self.buffer[self.start..];
        Message::header(here).is_some_and(|(len, ..)| here.len() >= len as usize)
    }

    /// Receives what is there, at least one byte; whether there will be more.
    fn fill(&mut self) -> io::Result<bool> {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.buffer.len() == self.buffer.capacity() {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        receive((self.stream, self.probation), &mut self.buffer, RecvFlags::empty())
    }

    fn small(&mut self, len: usize) -> io::Result<Bytes> {
        while self.buffer.len() - self.start < len {
            if self.buffer.capacity() - self.start < len {
                self.buffer.drain(..self.start);
                self.start = 0;
            }
            let from = (self.stream, self.probation);
            if !receive(from, &mut self.buffer, RecvFlags::empty())? {
                return Err(violation("a message is cut off"));
            }
        }
        let end = self.start + len;
        let message = Bytes::copy_from_slice(&self.buffer[self.start..end]);
        self.start = end;
        Ok(message)
    }

    fn large(&mut self, len: usize) -> io::Result<Bytes> {
        let mut message = self.spares.take(len);
        message.extend_from_slice(&self.buffer[self.start..]);
        self.buffer.clear();
        self.start = 0;
        // All at once, unless there happens to be room for what follows too.
        let is_exact = message.capacity() == len;
        let flags = if is_exact { RecvFlags::WAITALL } else { RecvFlags::empty() };
        while message.len() < len {
            if !receive((self.stream, self.probation), &mut message, flags)? {
                return Err(violation("a message is cut off"));
            }
        }
        self.buffer.extend_from_slice(&message[len..]);
        message.truncate(len);
        Ok(self.spares.lend(message))
    }
}

/// Receives into the room that is left; whether anything came.
fn receive(
    (stream, probation): (&Stream, Option<&Probation>),
    buffer: &mut Vec<u8>,
    flags: RecvFlags,
) -> io::Result<bool> {
    loop {
        // It may come byte by byte, so this is asked each time.
        probation.map_or(Ok(()), Probation::check)?;
        match recv(stream, spare_capacity(buffer), flags) {
            Ok((_, count)) => return Ok(count > 0),
            // A timeout is there to look at strangers; clients may be silent for ever.
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Memory that is used again.
#[derive(Debug, Default)]
struct Spares(Mutex<Vec<Vec<u8>>>);

impl Spares {
    /// Empty memory for `len` bytes.
    fn take(&self, len: usize) -> Vec<u8> {
        let mut spares = self.0.lock();
        match spares.iter().position(|spare| spare.capacity() == len) {
            Some(index) => spares.swap_remove(index),
            None => Vec::with_capacity(len),
        }
    }

    fn lend(self: &Arc<Self>, bytes: Vec<u8>) -> Bytes {
        if bytes.capacity() < DEAR_LEN {
            return bytes.into();
        }
        Bytes::from_owner(Lent { bytes, home: Arc::clone(self) })
    }

    fn give_back(&self, mut bytes: Vec<u8>) {
        bytes.clear();
        let mut spares = self.0.lock();
        if spares.len() == SPARE_MAX {
            spares.remove(0);
        }
        spares.push(bytes);
    }
}

struct Lent {
    bytes: Vec<u8>,
    home: Arc<Spares>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::{DEAR_LEN, Receiver, SMALL_LEN};
    use listen::Stream;
    use std::io::{ErrorKind, Write};
    use std::os::unix::net::UnixStream;

    const MAX: u32 = 1 << 20;

    fn message(tag: u16, len: usize) -> Vec<u8> {
        let mut bytes = (len as u32).to_le_bytes().to_vec();
        bytes.push(118);
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend((bytes.len()..len).map(|at| (at % 251) as u8));
        bytes
    }

    /// What is received of `bytes` that are sent in parts of `step`.
    fn received(bytes: &[u8], step: usize, max: u32) -> (Vec<Vec<u8>>, Option<ErrorKind>) {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // The other side may have had enough.
                let _ = bytes.chunks(step).try_for_each(|part| theirs.write_all(part));
            });
            let stream = Stream::Unix(ours);
            let mut receiver = Receiver::new(&stream);
            let mut messages = Vec::new();
            let end = loop {
                match receiver.next(max) {
                    Ok(Some(message)) => {
                        let mut bytes = self::message(message.tag, 7);
                        bytes.extend_from_slice(&message.fields);
                        let len = bytes.len() as u32;
                        bytes[..4].copy_from_slice(&len.to_le_bytes());
                        messages.push(bytes);
                    }
                    Ok(None) => break None,
                    Err(error) => break Some(error.kind()),
                }
            };
            drop(receiver);
            drop(stream);
            (messages, end)
        })
    }

    #[test]
    fn messages_come_apart_however_they_arrive() {
        let lens = [7, 8, SMALL_LEN, 9, SMALL_LEN + 1, 7, DEAR_LEN, DEAR_LEN, 300_000, 300_000, 7];
        let sent: Vec<_> = (0..).zip(lens).map(|(tag, len)| message(tag, len)).collect();
        for step in [1 << 20, 5000, 33] {
            let (messages, end) = received(&sent.concat(), step, MAX);
            assert!(messages == sent, "in steps of {step}");
            assert_eq!(end, None);
        }
    }

    #[test]
    fn what_is_too_long_or_too_short_ends_it() {
        for len in [0_u32, 6, 4097, u32::MAX] {
            let mut bytes = message(1, 100);
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend_from_slice(&[0; 100]);
            let (messages, end) = received(&bytes, 1000, 4096);
            assert_eq!((messages.len(), end), (1, Some(ErrorKind::InvalidData)), "{len}");
        }
    }

    #[test]
    fn what_is_cut_off_is_no_message() {
        for (len, kept) in [(100, 6), (100, 99), (50_000, 20_000), (300_000, 299_999)] {
            let (messages, end) = received(&message(1, len)[..kept], 1 << 20, MAX);
            assert_eq!((messages.len(), end), (0, Some(ErrorKind::InvalidData)), "{kept} of {len}");
        }
    }
}

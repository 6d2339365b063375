//! One connection: reads requests, has them answered, and cleans up behind the client.
//!
//! A request is polled once on the thread that read it. What can be answered from
//! memory is answered there, without waking anybody; only what has to wait moves to the
//! runtime, and the thread reads the next request. Its answer is written by a second
//! thread of the connection, so that a client that does not read its answers holds up
//! nobody but itself.

use crate::export::Bounds;
use crate::pending::{Admission, Answer, Flush, Pending};
use crate::receive::Receiver;
use crate::session::Session;
use crate::wire::{MSIZE_FIRST, Message, Reply, Request, kind};
use bytes::Bytes;
use listen::{Load, Stream};
use parking_lot::Mutex;
use std::io::{self, IoSlice, Write};
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::{Builder, Scope};
use std::time::Duration;
use tokio::runtime::Handle;
use vfs::{ErrorKind, Vfs};

/// How long a client may take to read an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long what is under way may take when no more requests come.
const GRACE: Duration = Duration::from_secs(3);

/// Answers to requests that came together go together, until they come to this.
const GATHERED_MAX: usize = 8 << 10;

/// The sending side of a connection.
struct Pipe<'a> {
    stream: &'a Stream,
    /// Held while messages are written.
    out: Mutex<Out>,
}

#[derive(Default)]
struct Out {
    /// Answers that the next ones will take along.
    gathered: Vec<u8>,
    /// Whether none can be written any more.
    is_broken: bool,
}

impl Pipe<'_> {
    /// Writes an answer to a request that did not wait. If more such requests are at
    /// hand it may be kept until the next answer or [`Pipe::flush`].
    fn send(&self, tag: u16, reply: Reply, has_more: bool) {
        self.write(&mut self.out.lock(), tag, reply, has_more);
    }

    /// Writes an answer to a request that waited, and then to those who waited for that.
    fn send_late(&self, pending: &Pending, Answer { tag, reply }: Answer) {
        let mut out = self.out.lock();
        let flushes = pending.finish(tag);
        if let Some(reply) = reply {
            self.write(&mut out, tag, reply, true);
        }
        for flush in flushes {
            self.write(&mut out, flush, Reply::to(kind::FLUSH, 0), true);
        }
        self.push(&mut out, &[], &[]);
    }

    /// Writes what has been kept: nobody knows when the next answer will be.
    fn flush(&self) {
        self.push(&mut self.out.lock(), &[], &[]);
    }

    fn write(&self, out: &mut Out, tag: u16, mut reply: Reply, has_more: bool) {
        reply.address(tag);
        let (fields, data) = reply.parts();
        if has_more && data.is_empty() && out.gathered.len() + fields.len() <= GATHERED_MAX {
            out.gathered.extend_from_slice(fields);
        } else {
            self.push(out, fields, data);
        }
    }

    /// Writes what has been kept, and then a message from where its parts lie.
    fn push(&self, out: &mut Out, fields: &[u8], data: &[Bytes]) {
        if !out.is_broken
            && let Err(error) = write_all(self.stream, &out.gathered, fields, data)
        {
            log::debug!("an answer was not taken: {error}");
            out.is_broken = true;
            // Nothing that is read could be answered.
            drop(self.stream.shutdown(Shutdown::Both));
        }
        out.gathered.clear();
    }
}

fn write_all(
    mut stream: &Stream,
    gathered: &[u8],
    fields: &[u8],
    data: &[Bytes],
) -> io::Result<()> {
    if gathered.is_empty() && data.is_empty() {
        return stream.write_all(fields);
    }
    let mut slices = Vec::with_capacity(2 + data.len());
    slices.extend([IoSlice::new(gathered), IoSlice::new(fields)]);
    slices.extend(data.iter().map(|slice| IoSlice::new(slice)));
    let mut left = &mut slices[..];
    // Empty slices are nothing to write.
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match stream.write_vectored(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut left, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Ends the thread that writes, however the one that reads ends.
struct End<'a>(&'a Pending);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A connection that is being served.
struct Connection<'scope, 'env, V: Vfs> {
    session: &'env Arc<Session<V>>,
    runtime: &'env Handle,
    pending: &'env Arc<Pending>,
    pipe: &'env Pipe<'env>,
    scope: &'scope Scope<'scope, 'env>,
    has_writer: bool,
}

/// Serves one connection until it ends.
pub(crate) fn serve<V: Vfs>(
    session: &Arc<Session<V>>,
    stream: &Stream,
    runtime: &Handle,
    bounds: &Bounds,
    load: &Arc<Load>,
) {
    if let Err(error) = stream.set_write_timeout(Some(WRITE_TIMEOUT)) {
        log::warn!("a client may take as long as it likes to read: {error}");
    }
    if let Err(error) = stream.set_read_timeout(Some(session.strangers_wait_max())) {
        log::warn!("a stranger may stay for as long as it likes: {error}");
    }
    let pending = Arc::new(Pending::new(bounds, Arc::clone(load)));
    let pipe = Pipe { stream, out: Mutex::default() };
    std::thread::scope(|scope| {
        let _end = End(&pending);
        let (pending, pipe) = (&pending, &pipe);
        let mut connection =
            Connection { session, runtime, pending, pipe, scope, has_writer: false };
        let end = connection.run();
        pipe.flush();
        match end {
            // The client closed its side, or the server stops: answers under way are
            // still welcome.
            Ok(()) => pending.drain(Some(GRACE)),
            Err(error) => log::debug!("a connection is cut: {error}"),
        }
        pending.abort_all();
        pending.drain(None);
    });
    runtime.block_on(session.end());
}

impl<'env, V: Vfs> Connection<'_, 'env, V> {
    fn run(&mut self) -> io::Result<()> {
        let _context = self.runtime.enter();
        let (session, stream): (&'env Arc<Session<V>>, &'env Stream) =
            (self.session, self.pipe.stream);
        let mut receiver = Receiver::new(stream);
        receiver.watch(session.probation());
        loop {
            let max = self.session.msize().unwrap_or(MSIZE_FIRST);
            if !receiver.has_message() {
                self.pipe.flush();
            }
            let Some(message) = receiver.next(max)? else { return Ok(()) };
            match message.kind {
                kind::VERSION => self.restart(message),
                kind::FLUSH => self.flush(message)?,
                _ => match self.admit(&message) {
                    Admission::Begins => self.answer(message, receiver.has_message())?,
                    Admission::TagInUse => return Err(io::Error::other("a tag is used twice")),
                    Admission::TooLate => return Ok(()),
                },
            }
        }
    }

    fn admit(&self, message: &Message) -> Admission {
        let has_hung_up = || listen::has_hung_up(self.pipe.stream);
        self.pending.admit(message.tag, message.weight(), || self.pipe.flush(), has_hung_up)
    }

    fn restart(&self, message: Message) {
        self.pipe.flush();
        self.pending.abort_all();
        self.pending.drain(None);
        let tag = message.tag;
        let reply = self.runtime.block_on(self.session.negotiate(message));
        self.pipe.send(tag, reply, false);
    }

    fn flush(&self, message: Message) -> io::Result<()> {
        let tag = message.tag;
        let Ok(Request::Flush { tag: flushed }) = Request::of(message) else {
            self.pipe.send(tag, Reply::error(ErrorKind::Invalid.linux_errno()), false);
            return Ok(());
        };
        match self.pending.flush(flushed, tag) {
            Flush::Waits => {}
            Flush::Done => self.pipe.send(tag, Reply::to(kind::FLUSH, 0), false),
            Flush::TooMany => return Err(io::Error::other("too many flushes")),
        }
        Ok(())
    }

    fn answer(&mut self, message: Message, has_more: bool) -> io::Result<()> {
        let (kind, tag, weight) = (message.kind, message.tag, message.weight());
        let may_be_given_up = message.may_be_given_up();
        let session = Arc::clone(self.session);
        let mut work = Box::pin(async move { session.answer(message).await });
        // The runtime polls again with a waker of its own, so no wake-up can be lost here.
        let mut nobody = Context::from_waker(Waker::noop());
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut nobody))) {
            Ok(Poll::Ready(reply)) => self.pipe.send(tag, reply, has_more),
            Ok(Poll::Pending) => {
                self.start_writer()?;
                let ticket = self.pending.begin(tag, weight);
                let task = self.runtime.spawn(async move { ticket.answer(work.await) });
                if may_be_given_up {
                    self.pending.may_abort(tag, task.abort_handle());
                }
            }
            Err(_) => {
                log::error!("message {kind} panicked and was answered with EIO");
                self.pipe.send(tag, Reply::error(ErrorKind::Io.linux_errno()), has_more);
            }
        }
        Ok(())
    }

    /// Starts the thread that writes late answers, before the first of them.
    fn start_writer(&mut self) -> io::Result<()> {
        if self.has_writer {
            return Ok(());
        }
        let (pending, pipe): (&'env Arc<Pending>, &'env Pipe<'env>) = (self.pending, self.pipe);
        let write = move || {
            while let Some(answer) = pending.next() {
                pipe.send_late(pending, answer);
            }
        };
        Builder::new().name("p9-answers".to_owned()).spawn_scoped(self.scope, write)?;
        self.has_writer = true;
        Ok(())
    }
}

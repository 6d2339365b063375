//! Runs a call to its end and answers it.
//!
//! A call is polled once on the thread that read it. What can be answered from memory is
//! answered there, without waking anybody; only what has to wait moves to the runtime,
//! and the thread reads the next call.

use crate::late::{GoingOn, Later, Waiting};
use crate::outbox::{Outbox, Packet, Permit};
use crate::replay::Running;
use crate::rpc::{ACCEPTED_LEN, LAST_FRAGMENT, MARK_LEN, Refusal, accept, refuse};
use crate::xdr::{Encoder, padded};
use bytes::Bytes;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::runtime::Handle;
use vfs::{ErrorKind, Segments};

/// A reply, less its mark.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Everything up to the data, with room for the mark.
    pub(crate) head: Encoder,
    /// File data at the end.
    pub(crate) data: Segments,
}

impl From<Encoder> for Answer {
    fn from(head: Encoder) -> Self {
        Self { head, data: Segments::default() }
    }
}

impl Answer {
    /// The reply as it is sent.
    pub(crate) fn into_packet(mut self, permit: Option<Permit>) -> Packet {
        let len = self.head.len() - MARK_LEN + padded(self.data.len());
        // Replies are at most a little longer than the largest read.
        self.head.set_u32(0, len as u32 | LAST_FRAGMENT);
        Packet { head: Bytes::from(self.head.into_vec()), data: self.data, permit }
    }
}

/// Where the one answer to one call goes. Dropped, it leaves the call unanswered: the
/// client asks again.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) xid: u32,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) permit: Permit,
    /// For a call whose reply is kept.
    pub(crate) running: Option<Running>,
    /// Whether the thread that read the call has better things to do than to answer it.
    pub(crate) is_for_others: bool,
    /// For a read, which may be answered before it is done.
    pub(crate) later: Option<Later>,
}

impl Reply {
    /// Puts the answer in line, and sends it unless the connection's own thread is about
    /// to.
    fn answer(self, answer: Answer, is_inline: bool, runtime: &Handle) {
        let packet = answer.into_packet(Some(self.permit));
        let is_final = !says_try_later(&packet.head);
        let other = self.running.and_then(|running| running.done(&packet.head, is_final));
        if let Some(other) = other {
            // Only calls without data in their replies are kept.
            let copy = Packet::from_head(packet.head.clone());
            other.send(copy, runtime);
        }
        if is_inline {
            self.outbox.queue(packet);
        } else {
            self.outbox.send(packet, runtime);
        }
    }

    /// Puts an answer in line that was given before.
    pub(crate) fn repeat(self, head: Bytes) {
        let packet = Packet { permit: Some(self.permit), ..Packet::from_head(head) };
        self.outbox.queue(packet);
    }

    /// Tells a reader to come again.
    fn come_again(self, runtime: &Handle) {
        log::debug!("read {:#x} takes long: its caller is told to come again", self.xid);
        let mut out = accept(self.xid, 8);
        out.u32(ErrorKind::Unavailable.nfs_status());
        // No attributes: they might have to be waited for as well.
        out.bool(false);
        self.answer(out.into(), false, runtime);
    }

    /// Answers that something broke. The reply is not kept: whether the call was done is
    /// not known.
    fn broken(mut self, is_inline: bool, runtime: &Handle) {
        self.running = None;
        let answer = Answer::from(refuse(self.xid, Refusal::Broken));
        self.answer(answer, is_inline, runtime);
    }
}

/// Whether a reply tells the client to ask again, which must then be asked again.
fn says_try_later(head: &[u8]) -> bool {
    let status = head.get(ACCEPTED_LEN..).and_then(<[u8]>::first_chunk);
    status == Some(&ErrorKind::Unavailable.nfs_status().to_be_bytes())
}

/// A call and where its answer goes.
struct Attempt<F> {
    work: Pin<Box<F>>,
    reply: Option<Reply>,
    /// Whether the thread that read the call is polling.
    is_inline: bool,
    /// For a call that may be answered before it is done, once it has to wait.
    waiting: Option<Waiting>,
    /// For one that was.
    going_on: Option<GoingOn>,
    runtime: Handle,
}

impl<F> Attempt<F> {
    /// Moves on to the runtime, which has been entered.
    fn leave(&mut self) {
        self.is_inline = false;
        let later = self.reply.as_mut().and_then(|reply| reply.later.take());
        self.waiting = later.map(Later::wait);
    }

    /// Whoever has waited for long enough is told to come again, and gives its place among
    /// the calls under way back. It is over if it does not go on without.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(waiting) = self.waiting.take_if(|waiting| waiting.is_over(cx)) else {
            return Poll::Pending;
        };
        self.going_on = waiting.go_on();
        if let Some(reply) = self.reply.take() {
            reply.come_again(&self.runtime);
        }
        if self.going_on.is_some() { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl<F: Future<Output = Answer>> Future for Attempt<F> {
    type Output = ();

    /// A panic ends the one call, not the connection and all the others on it.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let polled = catch_unwind(AssertUnwindSafe(|| this.work.as_mut().poll(cx)));
        if matches!(polled, Ok(Poll::Pending)) {
            return this.wait(cx);
        }
        let Some(reply) = this.reply.take() else { return Poll::Ready(()) };
        match polled {
            Ok(Poll::Ready(answer)) => reply.answer(answer, this.is_inline, &this.runtime),
            _ => {
                log::error!("call {:#x} panicked and was answered with an error", reply.xid);
                reply.broken(this.is_inline, &this.runtime);
            }
        }
        Poll::Ready(())
    }
}

/// Runs `work` to its end: here if it never has to wait and is not for others, else on
/// `runtime`. What is answered here is put in line, not sent.
pub(crate) fn run(
    runtime: &Handle,
    reply: Reply,
    work: impl Future<Output = Answer> + Send + 'static,
) {
    let _context = runtime.enter();
    let (work, runtime) = (Box::pin(work), runtime.clone());
    let is_inline = !reply.is_for_others;
    let (reply, waiting, going_on) = (Some(reply), None, None);
    let mut attempt = Attempt { work, reply, is_inline, waiting, going_on, runtime };
    // The runtime polls again with a waker of its own, so no wake-up can be lost here.
    let mut nobody = Context::from_waker(Waker::noop());
    if !is_inline || Pin::new(&mut attempt).poll(&mut nobody).is_pending() {
        attempt.leave();
        let runtime = attempt.runtime.clone();
        drop(runtime.spawn(attempt));
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Reply, run};
    use crate::outbox::Outbox;
    use crate::rpc::accept;
    use bytes::Bytes;
    use std::future::Future;
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::runtime::{Builder, Runtime};

    fn runtime() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap()
    }

    struct Line {
        outbox: Arc<Outbox>,
        theirs: UnixStream,
    }

    impl Line {
        fn new() -> Self {
            let (ours, theirs) = UnixStream::pair().unwrap();
            theirs.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            Self { outbox: Outbox::new(OwnedFd::from(ours)), theirs }
        }

        fn reply(&self, xid: u32) -> Reply {
            let permit = self.outbox.begin(0);
            let outbox = Arc::clone(&self.outbox);
            Reply { xid, outbox, permit, running: None, is_for_others: false, later: None }
        }

        /// The words of the next reply, less its mark.
        fn words(&self) -> Vec<u32> {
            let word = || {
                let mut word = [0; 4];
                (&self.theirs).read_exact(&mut word).unwrap();
                u32::from_be_bytes(word)
            };
            let len = word() & !(1 << 31);
            (0..len / 4).map(|_| word()).collect()
        }
    }

    fn answer(xid: u32, data: &'static [u8]) -> Answer {
        Answer { head: accept(xid, 0), data: Bytes::from_static(data).into() }
    }

    #[test]
    fn what_is_ready_waits_to_be_sent_with_others() {
        let (runtime, line) = (runtime(), Line::new());
        run(runtime.handle(), line.reply(5), async { answer(5, b"") });
        line.theirs.set_nonblocking(true).unwrap();
        assert!((&line.theirs).read(&mut [0; 1]).is_err(), "not sent yet");
        line.theirs.set_nonblocking(false).unwrap();
        line.outbox.flush();
        assert_eq!(line.words(), [5, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn what_waits_is_answered_by_the_runtime_after_what_came_later() {
        let (runtime, line) = (runtime(), Line::new());
        let (sender, receiver) = tokio::sync::oneshot::channel();
        run(runtime.handle(), line.reply(1), async {
            receiver.await.unwrap();
            answer(1, b"late")
        });
        run(runtime.handle(), line.reply(2), async { answer(2, b"") });
        line.outbox.flush();
        assert_eq!(line.words()[0], 2);
        sender.send(()).unwrap();
        let late = line.words();
        assert_eq!((late[0], late[6]), (1, u32::from_be_bytes(*b"late")));
    }

    #[test]
    fn what_is_for_others_is_answered_by_the_runtime() {
        let (runtime, line) = (runtime(), Line::new());
        let (sender, receiver) = std::sync::mpsc::channel();
        let reply = Reply { is_for_others: true, ..line.reply(3) };
        run(runtime.handle(), reply, async move {
            sender.send(std::thread::current().id()).unwrap();
            answer(3, b"")
        });
        assert_ne!(receiver.recv().unwrap(), std::thread::current().id());
        assert_eq!(line.words()[0], 3);
    }

    #[test]
    #[expect(clippy::panic, reason = "the panic is what is tested")]
    fn a_panic_costs_one_call() {
        fn outcome(work: impl Future<Output = Answer> + Send + 'static) -> Vec<u32> {
            let (runtime, line) = (runtime(), Line::new());
            run(runtime.handle(), line.reply(7), work);
            line.outbox.flush();
            line.words()
        }
        assert_eq!(outcome(async { panic!("inline") }), [7, 1, 0, 0, 0, 5]);
        let late = async {
            tokio::task::yield_now().await;
            panic!("on the runtime")
        };
        assert_eq!(outcome(late), [7, 1, 0, 0, 0, 5]);
    }

    #[test]
    fn what_the_runtime_gives_up_is_left_unanswered_and_makes_room() {
        let (runtime, line) = (runtime(), Line::new());
        run(runtime.handle(), line.reply(7), std::future::pending());
        drop(runtime);
        line.outbox.finish(Duration::from_secs(20));
        assert_eq!((&line.theirs).read(&mut [0; 1]).unwrap(), 0, "nothing was sent");
    }
}

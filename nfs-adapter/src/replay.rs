//! Remembers replies, so that a call which arrives twice is done once.
//!
//! A client that hears nothing sends its call again, after a lost connection at once: the
//! same number (`xid`), from the same address and port. Doing it again would be wrong for
//! whatever is not idempotent: the file is gone, the name is taken. So the reply of such
//! a call is kept and sent again. A call that is still under way is not begun a second
//! time; if the repetition came by another connection, the reply is sent there as well.
//!
//! Writes are among them, though repeating one is harmless: a copy of a write that is
//! still under way would otherwise be applied after writes that came later.

use crate::outbox::Outbox;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use vfs::{ClientId, OpId};

/// Replies kept.
const REPLIES_MAX: usize = 4096;
/// Bytes of replies kept.
const BYTES_MAX: usize = 4 << 20;
/// How long a repetition may take to come.
const KEPT_FOR: Duration = Duration::from_secs(120);
/// How much of the arguments is compared besides their length: all but a write's data.
const COMPARED_MAX: usize = 1024;

/// Who sent a call, as far as a new connection shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Sender {
    /// An address and port.
    Address(SocketAddr),
    /// A process.
    Process {
        /// Its user.
        uid: u32,
        /// Its number.
        pid: Option<i32>,
    },
}

/// What makes two calls the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallId {
    sender: Sender,
    xid: u32,
    sum: [u8; 16],
}

impl CallId {
    /// Names the call number `xid` by its procedure, user and arguments. The rest of a
    /// credential may be another each time.
    pub(crate) fn new(
        sender: Sender,
        xid: u32,
        (procedure, uid, arguments): (u32, u32, &[u8]),
    ) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&procedure.to_le_bytes());
        hasher.update(&uid.to_le_bytes());
        hasher.update(&(arguments.len() as u64).to_le_bytes());
        hasher.update(&arguments[..arguments.len().min(COMPARED_MAX)]);
        let mut sum = [0; 16];
        hasher.finalize_xof().fill(&mut sum);
        Self { sender, xid, sum }
    }

    /// The same for a file system that recognises repetitions itself.
    pub(crate) fn op(&self) -> OpId {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut client = DefaultHasher::new();
        self.sender.hash(&mut client);
        let mut sequence = DefaultHasher::new();
        (self.xid, self.sum).hash(&mut sequence);
        OpId { client: ClientId(client.finish()), sequence: sequence.finish() }
    }
}

/// The replies kept.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: HashMap<CallId, Known>,
    /// Calls that are done, the oldest first.
    done: VecDeque<(CallId, Instant)>,
    bytes: usize,
}

#[derive(Debug)]
enum Known {
    /// Under way; the reply goes to this connection, besides the first.
    Running {
        first: Weak<Outbox>,
        also: Option<Weak<Outbox>>,
    },
    Done(Bytes),
}

/// What is to become of a call.
#[derive(Debug)]
pub(crate) enum Begun {
    /// It is new.
    New(Running),
    /// It was done before, and this was the reply.
    Done(Bytes),
    /// It is being done.
    Running,
}

impl Replies {
    /// Begins a call that arrived by `outbox`.
    pub(crate) fn begin(self: &Arc<Self>, id: CallId, outbox: &Arc<Outbox>) -> Begun {
        let mut state = self.state.lock();
        state.expire(now());
        match state.calls.get_mut(&id) {
            Some(Known::Done(reply)) => return Begun::Done(reply.clone()),
            Some(Known::Running { first, also }) => {
                let by = Arc::downgrade(outbox);
                if !first.ptr_eq(&by) {
                    *also = Some(by);
                }
                return Begun::Running;
            }
            None => {}
        }
        state.calls.insert(id, Known::Running { first: Arc::downgrade(outbox), also: None });
        drop(state);
        Begun::New(Running { id, replies: Arc::clone(self), is_done: false })
    }
}

impl State {
    /// Forgets what is too old or too much.
    fn expire(&mut self, now: Instant) {
        while let Some((id, since)) = self.done.front() {
            let is_old = now.saturating_duration_since(*since) > KEPT_FOR;
            if !is_old && self.done.len() <= REPLIES_MAX && self.bytes <= BYTES_MAX {
                return;
            }
            if let Some(Known::Done(reply)) = self.calls.remove(id) {
                self.bytes -= reply.len();
            }
            self.done.pop_front();
        }
    }
}

/// A call under way. Dropped before it is done, it is forgotten, and may be begun again.
#[derive(Debug)]
pub(crate) struct Running {
    id: CallId,
    replies: Arc<Replies>,
    is_done: bool,
}

impl Running {
    /// Keeps the reply if it is final, or the call may be begun again; answers with the
    /// other connection that waits for it, if any.
    pub(crate) fn done(mut self, reply: &Bytes, is_final: bool) -> Option<Arc<Outbox>> {
        self.is_done = true;
        let mut state = self.replies.state.lock();
        let before = state.calls.remove(&self.id);
        if is_final {
            state.calls.insert(self.id, Known::Done(reply.clone()));
            state.done.push_back((self.id, now()));
            state.bytes += reply.len();
            state.expire(now());
        }
        match before {
            Some(Known::Running { also, .. }) => also?.upgrade(),
            _ => None,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_done {
            self.replies.state.lock().calls.remove(&self.id);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how long clients repeat is no simulated time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::{BYTES_MAX, Begun, CallId, KEPT_FOR, REPLIES_MAX, Replies, Running, Sender, now};
    use crate::outbox::Outbox;
    use bytes::Bytes;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::time::Duration;

    fn outbox() -> Arc<Outbox> {
        Outbox::new(OwnedFd::from(UnixStream::pair().unwrap().0))
    }

    fn sender(port: u16) -> Sender {
        Sender::Address(([127, 0, 0, 1], port).into())
    }

    fn call(port: u16, xid: u32, arguments: &[u8]) -> CallId {
        CallId::new(sender(port), xid, (9, 0, arguments))
    }

    fn new(replies: &Arc<Replies>, id: CallId, by: &Arc<Outbox>) -> Running {
        match replies.begin(id, by) {
            Begun::New(running) => running,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn a_repetition_gets_the_same_reply() {
        let (replies, outbox) = (Arc::<Replies>::default(), outbox());
        let id = call(700, 5, b"remove f");
        assert!(new(&replies, id, &outbox).done(&Bytes::from_static(b"gone"), true).is_none());
        let again = replies.begin(call(700, 5, b"remove f"), &self::outbox());
        assert!(matches!(again, Begun::Done(reply) if &reply[..] == b"gone"));
    }

    #[test]
    fn what_differs_in_anything_is_another_call() {
        let (replies, outbox) = (Arc::<Replies>::default(), outbox());
        let mut body = vec![7; 300];
        let id = call(700, 5, &body);
        new(&replies, id, &outbox).done(&Bytes::new(), true);
        new(&replies, call(701, 5, &body), &outbox).done(&Bytes::new(), true);
        new(&replies, call(700, 6, &body), &outbox).done(&Bytes::new(), true);
        body.push(7);
        new(&replies, call(700, 5, &body), &outbox).done(&Bytes::new(), true);
        body.pop();
        body[299] = 8;
        let other = call(700, 5, &body);
        new(&replies, other, &outbox).done(&Bytes::new(), true);
        for what in [(9, 1), (8, 0)] {
            let id = CallId::new(sender(700), 5, (what.0, what.1, &body));
            new(&replies, id, &outbox).done(&Bytes::new(), true);
        }
        assert_ne!(id.op(), other.op());
    }

    #[test]
    fn a_call_under_way_is_begun_once_and_answered_where_it_was_asked_last() {
        let (replies, first, second) = (Arc::<Replies>::default(), outbox(), outbox());
        let id = call(700, 5, b"rename");
        let running = new(&replies, id, &first);
        assert!(matches!(replies.begin(id, &first), Begun::Running));
        assert!(matches!(replies.begin(id, &second), Begun::Running));
        let also = running.done(&Bytes::from_static(b"ok"), true).unwrap();
        assert!(Arc::ptr_eq(&also, &second));
    }

    #[test]
    fn a_call_that_was_given_up_may_be_begun_again() {
        let (replies, outbox) = (Arc::<Replies>::default(), outbox());
        let id = call(700, 5, b"create");
        drop(new(&replies, id, &outbox));
        new(&replies, id, &outbox);
        assert!(replies.state.lock().calls.is_empty());
    }

    #[test]
    fn what_is_not_final_may_be_begun_again() {
        let (replies, first, second) = (Arc::<Replies>::default(), outbox(), outbox());
        let id = call(700, 5, b"create");
        let running = new(&replies, id, &first);
        assert!(matches!(replies.begin(id, &second), Begun::Running));
        let also = running.done(&Bytes::from_static(b"later"), false).unwrap();
        assert!(Arc::ptr_eq(&also, &second), "but who waits is told");
        new(&replies, id, &first).done(&Bytes::from_static(b"ok"), true);
        assert!(matches!(replies.begin(id, &first), Begun::Done(_)));
    }

    #[test]
    fn what_is_kept_is_bounded_in_number_size_and_time() {
        let (replies, outbox) = (Arc::<Replies>::default(), outbox());
        let reply = Bytes::from_static(&[0; 100]);
        for xid in 0..REPLIES_MAX as u32 + 10 {
            new(&replies, call(700, xid, b""), &outbox).done(&reply, true);
        }
        let count = |replies: &Replies| replies.state.lock().calls.len();
        assert_eq!(count(&replies), REPLIES_MAX);
        let large = Bytes::from(vec![0; BYTES_MAX / 4]);
        for xid in 0..8 {
            new(&replies, call(701, xid, b""), &outbox).done(&large, true);
        }
        assert_eq!(count(&replies), 4);
        replies.state.lock().expire(now() + KEPT_FOR + Duration::from_secs(1));
        assert_eq!(count(&replies), 0);
        assert_eq!(replies.state.lock().bytes, 0);
    }
}

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
//!
//! Each sender has room of its own: one that does much drives out nobody else's replies.

use crate::outbox::{CALLS_MAX, Outbox};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use vfs::{ClientId, OpId};

/// Replies kept for one sender; they have some hundred bytes each, as none has data. Four
/// times what a connection may have under way, because replies that are out may be lost.
const REPLIES_MAX: usize = 4 * CALLS_MAX;
/// Senders for which replies are kept: four times the connections there may be.
const SENDERS_MAX: usize = 256;
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
    senders: Mutex<HashMap<Sender, Calls>>,
}

/// The calls of one sender.
#[derive(Debug, Default)]
struct Calls {
    known: HashMap<CallId, Known>,
    /// Those that are done, the oldest first.
    done: VecDeque<(CallId, Instant)>,
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
        let mut senders = self.senders.lock();
        let now = now();
        if !senders.contains_key(&id.sender) {
            make_room(&mut senders, now);
        }
        let calls = senders.entry(id.sender).or_default();
        calls.expire(now);
        match calls.known.get_mut(&id) {
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
        calls.known.insert(id, Known::Running { first: Arc::downgrade(outbox), also: None });
        drop(senders);
        Begun::New(Running { id, replies: Arc::clone(self), is_done: false })
    }
}

/// Forgets senders of whom nothing is left to be repeated and, if there are too many, the
/// one that has been quiet for longest.
fn make_room(senders: &mut HashMap<Sender, Calls>, now: Instant) {
    senders.retain(|_, calls| {
        calls.expire(now);
        !calls.known.is_empty()
    });
    if senders.len() < SENDERS_MAX {
        return;
    }
    // Whoever has calls under way only has none that are done: no time, and the first.
    let last_done = |(_, calls): &(&Sender, &Calls)| calls.done.back().map(|(_, since)| *since);
    let quiet = senders.iter().min_by_key(last_done).map(|(sender, _)| *sender);
    if let Some(quiet) = quiet {
        senders.remove(&quiet);
    }
}

impl Calls {
    /// Forgets what is too old or too much.
    fn expire(&mut self, now: Instant) {
        while let Some((id, since)) = self.done.front() {
            let is_old = now.saturating_duration_since(*since) > KEPT_FOR;
            if !is_old && self.done.len() <= REPLIES_MAX {
                return;
            }
            self.known.remove(id);
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
        let mut senders = self.replies.senders.lock();
        // Its sender may have been forgotten.
        let calls = senders.get_mut(&self.id.sender)?;
        let before = calls.known.remove(&self.id);
        if is_final {
            let now = now();
            calls.known.insert(self.id, Known::Done(reply.clone()));
            calls.done.push_back((self.id, now));
            calls.expire(now);
        }
        match before {
            Some(Known::Running { also, .. }) => also?.upgrade(),
            _ => None,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_done
            && let Some(calls) = self.replies.senders.lock().get_mut(&self.id.sender)
        {
            calls.known.remove(&self.id);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how long clients repeat is no simulated time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::{Begun, CallId, KEPT_FOR, REPLIES_MAX, Replies, Running, SENDERS_MAX, Sender};
    use super::{make_room, now};
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
        assert_eq!(count(&replies), 0);
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

    fn count(replies: &Replies) -> usize {
        replies.senders.lock().values().map(|calls| calls.known.len()).sum()
    }

    #[test]
    fn what_is_kept_of_one_sender_is_bounded_in_number_and_time() {
        let (replies, outbox) = (Arc::<Replies>::default(), outbox());
        let reply = Bytes::from_static(&[0; 100]);
        new(&replies, call(701, 0, b""), &outbox).done(&reply, true);
        for xid in 0..REPLIES_MAX as u32 + 10 {
            new(&replies, call(700, xid, b""), &outbox).done(&reply, true);
        }
        assert_eq!(count(&replies), REPLIES_MAX + 1);
        // A busy sender does not drive out what another did long before.
        assert!(matches!(replies.begin(call(701, 0, b""), &outbox), Begun::Done(_)));
        let later = now() + KEPT_FOR + Duration::from_secs(1);
        make_room(&mut replies.senders.lock(), later);
        assert_eq!(replies.senders.lock().len(), 0);
    }

    #[test]
    fn of_too_many_senders_the_quiet_ones_are_forgotten() {
        let (replies, outbox) = (Arc::<Replies>::default(), outbox());
        let reply = Bytes::from_static(b"done");
        for port in 0..SENDERS_MAX as u16 + 10 {
            new(&replies, call(port, 0, b""), &outbox).done(&reply, true);
            // This one stays busy.
            new(&replies, call(0, u32::from(port) + 1, b""), &outbox).done(&reply, true);
        }
        assert_eq!(replies.senders.lock().len(), SENDERS_MAX);
        assert!(matches!(replies.begin(call(0, 0, b""), &outbox), Begun::Done(_)));
        new(&replies, call(1, 0, b""), &outbox);
    }
}

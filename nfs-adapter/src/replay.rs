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
//! All of them together have room as well, and if that is short, whoever has most loses
//! its oldest. A call under way is never forgotten. Callers without a handle that was
//! made here are not remembered at all: nothing of theirs is done.

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
/// Bytes of all replies kept: with 64 connections, still more for each than it may have
/// under way.
const BYTES_MAX: usize = 16 << 20;
/// What a reply takes besides its own bytes: names, places in maps, room not used.
const REPLY_EXTRA: usize = 512;
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
    kept: Mutex<Kept>,
}

/// The replies of all senders.
#[derive(Debug, Default)]
struct Kept {
    senders: HashMap<Sender, Calls>,
    /// What all replies take.
    bytes: usize,
}

/// The calls of one sender.
#[derive(Debug, Default)]
struct Calls {
    known: HashMap<CallId, Known>,
    /// Those that are done, the oldest first.
    done: VecDeque<(CallId, Instant)>,
    /// What their replies take.
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
        let mut locked = self.kept.lock();
        let (kept, now) = (&mut *locked, now());
        if !kept.senders.contains_key(&id.sender) {
            kept.make_room(now);
        }
        let calls = kept.senders.entry(id.sender).or_default();
        kept.bytes -= calls.expire(now);
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
        drop(locked);
        Begun::New(Running { id, replies: Arc::clone(self), is_done: false })
    }
}

#[cfg(test)]
impl Replies {
    /// How many calls are known.
    pub(crate) fn count(&self) -> usize {
        self.kept.lock().senders.values().map(|calls| calls.known.len()).sum()
    }
}

impl Kept {
    /// Forgets senders of whom nothing is left to be repeated and, if there are too many,
    /// what the one that has been quiet for longest has done.
    fn make_room(&mut self, now: Instant) {
        for calls in self.senders.values_mut() {
            self.bytes -= calls.expire(now);
        }
        self.senders.retain(|_, calls| !calls.known.is_empty());
        if self.senders.len() < SENDERS_MAX {
            return;
        }
        let last_done = |calls: &Calls| calls.done.back().map(|(_, since)| *since);
        let done = self.senders.iter().filter_map(|(who, calls)| Some((last_done(calls)?, *who)));
        let Some((_, quiet)) = done.min_by_key(|(since, _)| *since) else { return };
        if let Some(calls) = self.senders.get_mut(&quiet) {
            while !calls.done.is_empty() {
                self.bytes -= calls.forget_oldest();
            }
            // What is under way would be begun again.
            if calls.known.is_empty() {
                self.senders.remove(&quiet);
            }
        }
    }

    /// Keeps a reply, in the place of others if there is too much.
    fn keep(&mut self, id: CallId, reply: Bytes, now: Instant) {
        let calls = self.senders.entry(id.sender).or_default();
        let cost = cost(&reply);
        calls.known.insert(id, Known::Done(reply));
        calls.done.push_back((id, now));
        calls.bytes += cost;
        self.bytes += cost;
        self.bytes -= calls.expire(now);
        while self.bytes > BYTES_MAX {
            let most = self.senders.values_mut().max_by_key(|calls| calls.bytes);
            let freed = most.map_or(0, Calls::forget_oldest);
            if freed == 0 {
                return;
            }
            self.bytes -= freed;
        }
    }
}

/// What a reply takes.
fn cost(reply: &Bytes) -> usize {
    reply.len() + REPLY_EXTRA
}

impl Calls {
    /// Forgets what is too old or too much; how many bytes are free by that.
    fn expire(&mut self, now: Instant) -> usize {
        let mut freed = 0;
        while let Some((_, since)) = self.done.front() {
            let is_old = now.saturating_duration_since(*since) > KEPT_FOR;
            if !is_old && self.done.len() <= REPLIES_MAX {
                break;
            }
            freed += self.forget_oldest();
        }
        freed
    }

    /// Forgets the reply that has been there for longest; how many bytes are free by that.
    fn forget_oldest(&mut self) -> usize {
        let Some((id, _)) = self.done.pop_front() else { return 0 };
        let freed = match self.known.remove(&id) {
            Some(Known::Done(reply)) => cost(&reply),
            _ => 0,
        };
        self.bytes -= freed;
        // Whoever had much does not keep the room for it.
        if self.known.capacity() > 8 * self.known.len() + 64 {
            self.known.shrink_to(2 * self.known.len());
            self.done.shrink_to(2 * self.done.len());
        }
        freed
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
        let mut kept = self.replies.kept.lock();
        let calls = kept.senders.get_mut(&self.id.sender)?;
        let before = calls.known.remove(&self.id);
        if is_final {
            kept.keep(self.id, reply.clone(), now());
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
            && let Some(calls) = self.replies.kept.lock().senders.get_mut(&self.id.sender)
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
    use super::{BYTES_MAX, Begun, CallId, KEPT_FOR, REPLIES_MAX, Replies, Running};
    use super::{SENDERS_MAX, Sender, cost, now};
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
        assert_eq!(replies.count(), 0);
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
    fn what_is_kept_of_one_sender_is_bounded_in_number_and_time() {
        let (replies, outbox) = (Arc::<Replies>::default(), outbox());
        let reply = Bytes::from_static(&[0; 100]);
        new(&replies, call(701, 0, b""), &outbox).done(&reply, true);
        for xid in 0..REPLIES_MAX as u32 + 10 {
            new(&replies, call(700, xid, b""), &outbox).done(&reply, true);
        }
        assert_eq!(replies.count(), REPLIES_MAX + 1);
        // A busy sender does not drive out what another did long before.
        assert!(matches!(replies.begin(call(701, 0, b""), &outbox), Begun::Done(_)));
        let later = now() + KEPT_FOR + Duration::from_secs(1);
        let mut kept = replies.kept.lock();
        kept.make_room(later);
        assert_eq!((kept.senders.len(), kept.bytes), (0, 0));
    }

    #[test]
    fn what_is_kept_of_all_senders_is_bounded_in_bytes() {
        let (replies, outbox) = (Arc::<Replies>::default(), outbox());
        let reply = Bytes::from_static(&[0; 300]);
        new(&replies, call(1, 0, b""), &outbox).done(&reply, true);
        let fits = BYTES_MAX / cost(&reply);
        let senders = fits / REPLIES_MAX + 3;
        assert!(senders < SENDERS_MAX, "or those are the bound");
        for xid in 0..REPLIES_MAX as u32 {
            for port in 0..senders as u16 {
                new(&replies, call(1000 + port, xid, b""), &outbox).done(&reply, true);
            }
        }
        assert_eq!(replies.count(), fits);
        let kept = replies.kept.lock();
        assert!(kept.bytes <= BYTES_MAX && kept.bytes + cost(&reply) > BYTES_MAX);
        assert_eq!(kept.senders.values().map(|calls| calls.bytes).sum::<usize>(), kept.bytes);
        drop(kept);
        // Those who have most lost their oldest; who has little lost nothing.
        assert!(matches!(replies.begin(call(1, 0, b""), &outbox), Begun::Done(_)));
        let last = call(1000, REPLIES_MAX as u32 - 1, b"");
        assert!(matches!(replies.begin(last, &outbox), Begun::Done(_)));
    }

    #[test]
    fn a_call_under_way_is_never_forgotten() {
        let (replies, outbox) = (Arc::<Replies>::default(), outbox());
        let reply = Bytes::from_static(b"done");
        let slow = new(&replies, call(700, 0, b"only"), &outbox);
        let other = new(&replies, call(701, 0, b"not only"), &outbox);
        new(&replies, call(701, 1, b""), &outbox).done(&reply, true);
        for port in 1000..1010 + SENDERS_MAX as u16 {
            new(&replies, call(port, 0, b""), &outbox).done(&reply, true);
        }
        assert!(matches!(replies.begin(call(701, 0, b"not only"), &outbox), Begun::Running));
        assert!(matches!(replies.begin(call(700, 0, b"only"), &outbox), Begun::Running));
        drop(other);
        slow.done(&reply, true);
        assert!(matches!(replies.begin(call(700, 0, b"only"), &outbox), Begun::Done(_)));
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
        assert_eq!(replies.kept.lock().senders.len(), SENDERS_MAX);
        assert!(matches!(replies.begin(call(0, 0, b""), &outbox), Begun::Done(_)));
        new(&replies, call(1, 0, b""), &outbox);
    }
}

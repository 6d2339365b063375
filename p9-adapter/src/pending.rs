//! The requests of a connection that wait for something, and their answers.
//!
//! Only what was not answered at once is here. A tag is taken off at the moment its
//! answer is written, so what is said about it before and after is in the right order
//! on the wire: the answer to a `Tflush` comes after the answer to what it flushed, or
//! instead of it.

use crate::export::Bounds;
use crate::wire::Reply;
use listen::Load;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use vfs::ErrorKind;

/// How often whoever waits for room looks whether the client is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often whoever waits for other connections looks: they tell nobody.
const LOOK_AT_OTHERS_EVERY: Duration = Duration::from_millis(10);
/// Flushes that may wait for each request that may wait.
const FLUSHES_EACH: usize = 4;

/// The requests that wait.
#[derive(Debug)]
pub(crate) struct Pending {
    state: Mutex<State>,
    /// Signalled when a request is answered.
    room: Condvar,
    /// Signalled when there is an answer to write, or never will be again.
    ready: Condvar,
    max: usize,
    bytes_max: usize,
    /// What waits on all connections of the server.
    load: Arc<Load>,
}

#[derive(Debug, Default)]
struct State {
    /// What those who wait bring or ask for.
    bytes: usize,
    waiting: HashMap<u16, Waiting>,
    answered: VecDeque<Answer>,
    flush_count: usize,
    is_over: bool,
}

#[derive(Debug)]
struct Waiting {
    bytes: usize,
    /// Ends it, if it may be ended.
    abort: Option<AbortHandle>,
    is_cancelled: bool,
    /// Tags of those who wait for it to be over.
    flushes: Vec<u16>,
}

/// What became of a request: nothing if it was cancelled.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) tag: u16,
    pub(crate) reply: Option<Reply>,
}

/// What becomes of a `Tflush`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    /// It is answered with what it flushes.
    Waits,
    /// There is nothing to wait for.
    Done,
    /// The client has too many of them.
    TooMany,
}

/// What becomes of a request that has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It may begin.
    Begins,
    /// Another of the same tag is under way.
    TagInUse,
    /// The client has given up the connection while there was no room. It may have asked
    /// again by another, and gone on since: this is not to be done late.
    TooLate,
}

impl Pending {
    pub(crate) fn new(bounds: &Bounds, load: Arc<Load>) -> Self {
        Self {
            state: Mutex::default(),
            room: Condvar::new(),
            ready: Condvar::new(),
            max: bounds.requests_max.max(1),
            bytes_max: bounds.request_bytes_max,
            load,
        }
    }

    /// Waits until another request, of so many bytes, may begin to wait; does `first`
    /// before it does.
    pub(crate) fn admit(
        &self,
        tag: u16,
        bytes: usize,
        first: impl FnOnce(),
        has_hung_up: impl Fn() -> bool,
    ) -> Admission {
        let mut state = self.state.lock();
        let is_full_here = |state: &State| {
            let is_too_much = state.bytes.saturating_add(bytes) > self.bytes_max;
            state.waiting.len() >= self.max || (is_too_much && !state.waiting.is_empty())
        };
        // If nothing waits here one may begin: its end waits for nobody else.
        let is_full = |state: &State| {
            is_full_here(state) || (!state.waiting.is_empty() && self.load.is_full())
        };
        let had_to_wait = is_full(&state);
        if had_to_wait {
            // What it writes may take as long as the client likes, and be waited for.
            MutexGuard::unlocked(&mut state, first);
        }
        while is_full(&state) {
            let step = if is_full_here(&state) { LOOK_EVERY } else { LOOK_AT_OTHERS_EVERY };
            let waited = self.room.wait_for(&mut state, step);
            if waited.timed_out() && has_hung_up() {
                return Admission::TooLate;
            }
        }
        if had_to_wait && has_hung_up() {
            return Admission::TooLate;
        }
        if state.waiting.contains_key(&tag) { Admission::TagInUse } else { Admission::Begins }
    }

    /// A request waits from now on. What is given must be told of its end.
    pub(crate) fn begin(self: &Arc<Self>, tag: u16, bytes: usize) -> Ticket {
        let waiting = Waiting { bytes, abort: None, is_cancelled: false, flushes: Vec::new() };
        self.load.add(bytes);
        let mut state = self.state.lock();
        state.bytes += bytes;
        state.waiting.insert(tag, waiting);
        drop(state);
        Ticket { pending: Arc::clone(self), tag, is_used: false }
    }

    /// The request of this tag may be ended like this.
    pub(crate) fn may_abort(&self, tag: u16, abort: AbortHandle) {
        if let Some(waiting) = self.state.lock().waiting.get_mut(&tag) {
            waiting.abort = Some(abort);
        }
    }

    /// Cancels a request, if it may be.
    pub(crate) fn flush(&self, tag: u16, by: u16) -> Flush {
        let mut state = self.state.lock();
        let is_full = state.flush_count >= self.max.saturating_mul(FLUSHES_EACH);
        let Some(waiting) = state.waiting.get_mut(&tag) else { return Flush::Done };
        if is_full {
            return Flush::TooMany;
        }
        waiting.flushes.push(by);
        if let Some(abort) = &waiting.abort {
            waiting.is_cancelled = true;
            abort.abort();
        }
        state.flush_count += 1;
        Flush::Waits
    }

    /// Cancels every request that may be.
    pub(crate) fn abort_all(&self) {
        for waiting in self.state.lock().waiting.values_mut() {
            if let Some(abort) = &waiting.abort {
                waiting.is_cancelled = true;
                abort.abort();
            }
        }
    }

    /// Waits until nothing waits, for so long at most.
    pub(crate) fn drain(&self, patience: Option<Duration>) {
        let mut state = self.state.lock();
        let is_busy = |state: &mut State| !state.waiting.is_empty();
        match patience {
            None => self.room.wait_while(&mut state, is_busy),
            Some(patience) => drop(self.room.wait_while_for(&mut state, is_busy, patience)),
        }
    }

    /// There will be no further requests.
    pub(crate) fn end(&self) {
        self.state.lock().is_over = true;
        self.ready.notify_all();
    }

    /// Waits for an answer to write; `None` when there will be none.
    pub(crate) fn next(&self) -> Option<Answer> {
        let mut state = self.state.lock();
        self.ready.wait_while(&mut state, |state| state.answered.is_empty() && !state.is_over);
        state.answered.pop_front()
    }

    /// A request is about to be answered: gives the tags of those who wait for that.
    pub(crate) fn finish(&self, tag: u16) -> Vec<u16> {
        let mut state = self.state.lock();
        let Some(Waiting { bytes, flushes, .. }) = state.waiting.remove(&tag) else {
            return Vec::new();
        };
        state.bytes -= bytes;
        self.load.remove(bytes);
        state.flush_count -= flushes.len();
        self.room.notify_all();
        flushes
    }

    fn answered(&self, tag: u16, reply: Option<Reply>) {
        let mut state = self.state.lock();
        let is_cancelled = state.waiting.get(&tag).is_some_and(|waiting| waiting.is_cancelled);
        // Dropped without being cancelled: it panicked.
        let reply = match reply {
            None if !is_cancelled => {
                log::error!("a request panicked and was answered with EIO");
                Some(Reply::error(ErrorKind::Io.linux_errno()))
            }
            reply => reply,
        };
        state.answered.push_back(Answer { tag, reply });
        self.ready.notify_one();
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // Nothing, unless the connection ended by a panic.
        self.load.remove(self.state.get_mut().bytes);
    }
}

/// The duty to say what became of a request.
#[derive(Debug)]
pub(crate) struct Ticket {
    pending: Arc<Pending>,
    tag: u16,
    is_used: bool,
}

impl Ticket {
    pub(crate) fn answer(mut self, reply: Reply) {
        self.is_used = true;
        self.pending.answered(self.tag, Some(reply));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_used {
            self.pending.answered(self.tag, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Admission, Answer, Flush, Pending};
    use crate::export::Bounds;
    use crate::wire::{Reply, kind};
    use listen::Load;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::runtime::{Builder, Runtime};

    fn runtime() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).build().unwrap()
    }

    fn pending(requests_max: usize) -> Arc<Pending> {
        let bounds = Bounds { requests_max, request_bytes_max: 25, ..Bounds::default() };
        let load = Arc::new(Load::new(bounds.all_request_bytes_max));
        Arc::new(Pending::new(&bounds, load))
    }

    /// A request that never ends by itself.
    fn stuck(pending: &Arc<Pending>, tag: u16, runtime: &Runtime, may_abort: bool) {
        let ticket = pending.begin(tag, 10);
        let task = runtime.spawn(async move {
            std::future::pending::<()>().await;
            drop(ticket);
        });
        if may_abort {
            pending.may_abort(tag, task.abort_handle());
        }
    }

    #[test]
    fn a_flushed_request_is_not_answered() {
        let (pending, runtime) = (pending(4), runtime());
        stuck(&pending, 1, &runtime, true);
        assert_eq!(pending.flush(2, 9), Flush::Done, "no such request");
        assert_eq!(pending.flush(1, 8), Flush::Waits);
        assert_eq!(pending.flush(1, 9), Flush::Waits);
        let Answer { tag, reply } = pending.next().unwrap();
        assert!(reply.is_none());
        assert_eq!((tag, pending.finish(1)), (1, vec![8, 9]));
        assert_eq!(pending.flush(1, 9), Flush::Done);
    }

    #[test]
    fn what_was_answered_before_it_was_flushed_stays_answered() {
        let pending = pending(4);
        let ticket = pending.begin(1, 10);
        ticket.answer(Reply::to(kind::CLUNK, 0));
        assert_eq!(pending.flush(1, 8), Flush::Waits);
        let answer = pending.next().unwrap();
        assert!(answer.reply.is_some());
        assert_eq!(pending.finish(1), [8]);
    }

    #[test]
    fn a_panic_is_an_answer() {
        let pending = pending(4);
        drop(pending.begin(1, 10));
        assert!(pending.next().unwrap().reply.is_some());
    }

    #[test]
    fn there_is_room_for_so_many() {
        let (pending, runtime) = (pending(2), runtime());
        stuck(&pending, 1, &runtime, true);
        assert_eq!(pending.admit(1, 10, || (), || false), Admission::TagInUse);
        assert_eq!(
            pending.admit(2, 10, || (), || true),
            Admission::Begins,
            "there was room at once"
        );
        stuck(&pending, 2, &runtime, false);
        for by in 0..8 {
            assert_eq!(pending.flush(2, by), Flush::Waits);
        }
        assert_eq!(pending.flush(2, 9), Flush::TooMany);
        std::thread::scope(|scope| {
            let admitted = scope.spawn(|| pending.admit(3, 10, || (), || false));
            assert!(!admitted.is_finished());
            pending.abort_all();
            assert_eq!(pending.next().unwrap().tag, 1);
            pending.finish(1);
            assert_eq!(admitted.join().unwrap(), Admission::Begins);
        });
        // The other may not be cancelled.
        pending.drain(Some(Duration::from_millis(1)));
        pending.end();
        assert!(pending.next().is_none());
    }

    #[test]
    fn there_is_room_for_so_many_bytes() {
        let (pending, runtime) = (pending(9), runtime());
        assert_eq!(pending.admit(1, 1000, || (), || false), Admission::Begins, "one may be longer");
        stuck(&pending, 1, &runtime, true);
        assert_eq!(pending.admit(2, 15, || (), || false), Admission::Begins);
        stuck(&pending, 2, &runtime, true);
        assert_eq!(pending.admit(3, 5, || (), || false), Admission::Begins);
        std::thread::scope(|scope| {
            let admitted = scope.spawn(|| pending.admit(3, 6, || (), || false));
            assert_eq!(pending.flush(1, 8), Flush::Waits);
            pending.next().unwrap();
            assert!(!admitted.is_finished());
            pending.finish(1);
            assert_eq!(admitted.join().unwrap(), Admission::Begins);
        });
    }

    #[test]
    fn many_connections_have_so_many_bytes_together_and_none_waits_for_ever() {
        const CONNECTIONS: usize = 64;
        let (runtime, load) = (runtime(), Arc::new(Load::new(25)));
        let serve = || {
            let pending = Arc::new(Pending::new(&Bounds::default(), Arc::clone(&load)));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while let Some(answer) = pending.next() {
                        pending.finish(answer.tag);
                    }
                });
                for tag in 0..50 {
                    let admitted = pending.admit(tag, 10, || (), || false);
                    assert_eq!(admitted, Admission::Begins);
                    let ticket = pending.begin(tag, 10);
                    let bytes = load.bytes();
                    assert!(bytes <= 25 + 10 * CONNECTIONS, "{bytes}");
                    runtime.spawn(async move {
                        tokio::task::yield_now().await;
                        ticket.answer(Reply::to(kind::CLUNK, 0));
                    });
                }
                pending.drain(None);
                pending.end();
            });
        };
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(serve)).collect();
            all.into_iter().for_each(|one| one.join().unwrap());
        });
        assert_eq!(load.bytes(), 0);
    }

    #[test]
    fn what_waits_on_other_connections_is_waited_for() {
        let (bounds, load) = (Bounds::default(), Arc::new(Load::new(25)));
        let [one, other] = [(); 2].map(|()| Arc::new(Pending::new(&bounds, Arc::clone(&load))));
        let _held = other.begin(1, 30);
        assert_eq!(one.admit(1, 10, || (), || true), Admission::Begins, "there is nothing here");
        let _ticket = one.begin(1, 10);
        std::thread::scope(|scope| {
            let admitted = scope.spawn(|| one.admit(2, 10, || (), || false));
            assert_eq!(one.admit(2, 10, || (), || true), Admission::TooLate);
            assert!(!admitted.is_finished());
            other.finish(1);
            assert_eq!(admitted.join().unwrap(), Admission::Begins);
        });
    }

    #[test]
    fn what_was_given_up_while_there_was_no_room_is_too_late() {
        let (pending, runtime) = (pending(1), runtime());
        stuck(&pending, 1, &runtime, true);
        assert_eq!(pending.admit(2, 1, || (), || true), Admission::TooLate, "while there is none");
        std::thread::scope(|scope| {
            let admitted = scope.spawn(|| pending.admit(2, 1, || (), || true));
            assert_eq!(pending.flush(1, 8), Flush::Waits);
            pending.next().unwrap();
            pending.finish(1);
            assert_ne!(admitted.join().unwrap(), Admission::TagInUse);
        });
    }
}

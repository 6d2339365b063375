//! Runs a request to its end and answers it.
//!
//! A request is polled once on the thread that read it. What can be answered from
//! memory is answered there, without waking anybody; only what has to wait moves to the
//! runtime, and the thread reads the next request.

use crate::wire::Opcode;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};
use tokio::runtime::Handle;

/// Runs `work` to its end: here if it never has to wait, else on `runtime`.
///
/// A panic ends the one request, not the thread: dropping an unsent reply answers it
/// with `EIO`, and a mount that lost its threads would hang everybody who uses it.
pub(crate) fn run(runtime: &Handle, work: impl Future<Output = ()> + Send + 'static) {
    let _context = runtime.enter();
    let mut work = Box::pin(work);
    // The runtime polls again with a waker of its own, so no wake-up can be lost here.
    let mut nobody = Context::from_waker(Waker::noop());
    match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut nobody))) {
        Ok(Poll::Ready(())) => {}
        Ok(Poll::Pending) => drop(runtime.spawn(work)),
        Err(_) => log::error!("a request panicked and was answered with EIO"),
    }
}

/// What was asked, for the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op {
    /// What is asked.
    pub(crate) opcode: Opcode,
    /// The inode it is about.
    pub(crate) ino: u64,
}

impl Op {
    /// Writes a failure to the log, once, and gives its number.
    pub(crate) fn report(self, error: &vfs::Error) -> i32 {
        let Self { opcode, ino } = self;
        if error.is_alarming() {
            log::error!("{opcode:?} of inode {ino} failed: {error}");
        } else {
            log::debug!("{opcode:?} of inode {ino}: {error}");
        }
        error.kind().errno()
    }
}

#[cfg(test)]
mod tests {
    use super::{Op, Opcode, run};
    use std::future::Future;
    use std::sync::mpsc::{Sender, channel};
    use std::thread::ThreadId;
    use std::time::Duration;
    use tokio::runtime::{Builder, Runtime};

    const LONG: Duration = Duration::from_secs(10);

    fn runtime() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap()
    }

    /// Reports on drop, like a reply that was never sent.
    struct Probe(Sender<Option<ThreadId>>);

    impl Probe {
        fn done(self) {
            self.0.send(Some(std::thread::current().id())).unwrap();
            std::mem::forget(self);
        }
    }

    impl Drop for Probe {
        fn drop(&mut self) {
            let _ = self.0.send(None);
        }
    }

    fn outcome(work: impl Future<Output = ()> + Send + 'static) -> Option<ThreadId> {
        let runtime = runtime();
        let (sender, receiver) = channel();
        let probe = Probe(sender);
        run(runtime.handle(), async move {
            work.await;
            probe.done();
        });
        receiver.recv_timeout(LONG).unwrap()
    }

    #[test]
    fn what_is_ready_is_answered_on_the_reading_thread() {
        assert_eq!(outcome(async {}), Some(std::thread::current().id()));
    }

    #[test]
    fn what_waits_is_finished_by_the_runtime() {
        let thread = outcome(tokio::task::yield_now()).unwrap();
        assert_ne!(thread, std::thread::current().id());
    }

    #[test]
    fn what_waits_for_a_lock_gets_it() {
        let runtime = runtime();
        let lock = std::sync::Arc::new(tokio::sync::Mutex::new(()));
        let held = lock.clone().try_lock_owned().unwrap();
        let (sender, receiver) = channel();
        let probe = Probe(sender);
        run(runtime.handle(), async move {
            drop(lock.lock().await);
            probe.done();
        });
        assert!(receiver.try_recv().is_err(), "the lock is taken");
        drop(held);
        assert!(receiver.recv_timeout(LONG).unwrap().is_some());
    }

    #[test]
    #[expect(clippy::panic, reason = "the panic is what is tested")]
    fn a_panic_ends_one_request_only() {
        assert_eq!(outcome(async { panic!("inline") }), None);
        let late = async {
            tokio::task::yield_now().await;
            panic!("on the runtime")
        };
        assert_eq!(outcome(late), None);
    }

    #[test]
    fn errors_are_told_as_the_hosts_number() {
        let op = Op { opcode: Opcode::RemoveDir, ino: 7 };
        assert_eq!(op.report(&vfs::ErrorKind::NotEmpty.into()), libc::ENOTEMPTY);
    }
}

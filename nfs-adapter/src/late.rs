//! Reads that take long: whoever asks is told to come again (`NFS3ERR_JUKEBOX`), and what
//! was begun goes on without it, so that it finds here what it comes again for.
//!
//! Nothing else is answered before it is done. A write that its client was told is not
//! done must not be done any more, over what the client has written since.

use parking_lot::Mutex;
use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;
use tokio::time::Sleep;
use vfs::Ino;

/// Reads of a server that may go on with nobody waiting for them; each may hold a
/// mebibyte. What is given up beyond them is begun anew when its client comes again.
const GOING_ON_MAX: usize = 32;

/// What is read: a file, the offset and the length.
pub(crate) type Wanted = (Ino, u64, u32);

/// The reads of a server that are going on.
#[derive(Debug)]
pub(crate) struct Late {
    patience: Duration,
    going_on: Mutex<HashSet<Wanted>>,
}

impl Late {
    /// Callers wait for so long.
    pub(crate) fn new(patience: Duration) -> Arc<Self> {
        Arc::new(Self { patience, going_on: Mutex::default() })
    }

    /// What a read may have instead of its answer.
    pub(crate) fn later(self: &Arc<Self>, wanted: Wanted) -> Later {
        Later { late: Arc::clone(self), wanted }
    }
}

/// That a call may be answered before it is done.
#[derive(Debug)]
pub(crate) struct Later {
    late: Arc<Late>,
    wanted: Wanted,
}

impl Later {
    /// Begins to wait. The runtime has to be entered.
    #[expect(clippy::disallowed_methods, reason = "clients wait by no simulated time")]
    pub(crate) fn wait(self) -> Waiting {
        let timer = Box::pin(tokio::time::sleep(self.late.patience));
        Waiting { timer, later: self }
    }

    /// The right to go on; `None` if the same is going on already, or too much is.
    fn go_on(self) -> Option<GoingOn> {
        let mut going_on = self.late.going_on.lock();
        if going_on.len() >= GOING_ON_MAX || !going_on.insert(self.wanted) {
            return None;
        }
        drop(going_on);
        Some(GoingOn(self))
    }
}

/// A caller that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    timer: Pin<Box<Sleep>>,
    later: Later,
}

impl Waiting {
    /// Whether it has waited for long enough.
    pub(crate) fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.timer.as_mut().poll(cx).is_ready()
    }

    /// Nobody waits any more: whether the call goes on all the same, while this is held.
    pub(crate) fn go_on(self) -> Option<GoingOn> {
        self.later.go_on()
    }
}

/// A read that goes on with nobody waiting for it.
#[derive(Debug)]
pub(crate) struct GoingOn(Later);

impl Drop for GoingOn {
    fn drop(&mut self) {
        self.0.late.going_on.lock().remove(&self.0.wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::{GOING_ON_MAX, Late};
    use std::time::Duration;
    use vfs::Ino;

    #[test]
    fn the_same_goes_on_once_and_not_too_much_does() {
        let late = Late::new(Duration::ZERO);
        let go_on = |offset| late.later((Ino::ROOT, offset, 10)).go_on();
        let mut going_on: Vec<_> = (0..GOING_ON_MAX as u64 - 1).filter_map(go_on).collect();
        assert_eq!(going_on.len(), GOING_ON_MAX - 1);
        assert!(go_on(0).is_none(), "that is going on");
        going_on.extend(go_on(100));
        assert_eq!(going_on.len(), GOING_ON_MAX);
        assert!(go_on(200).is_none(), "there is no room");
        drop(going_on.remove(0));
        assert!(go_on(0).is_some());
    }
}

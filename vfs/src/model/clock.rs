//! Where the model gets the time from.

use crate::Timestamp;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Answers what time it is.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A clock that moves only when told to; clones show the same time.
///
/// To compare the times of two implementations, give both the same clock and move
/// it between operations: they may then look at it as often as they like.
#[derive(Clone, Debug)]
pub struct ManualClock {
    now: Arc<Mutex<Timestamp>>,
}

impl ManualClock {
    /// A clock that stands at this second.
    #[must_use]
    pub fn new(seconds: i64) -> Self {
        Self { now: Arc::new(Mutex::new(Timestamp { seconds, nanoseconds: 0 })) }
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let nanoseconds = now.nanoseconds + by.subsec_nanos();
        let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
        now.seconds = now.seconds.saturating_add(seconds) + i64::from(nanoseconds / 1_000_000_000);
        now.nanoseconds = nanoseconds % 1_000_000_000;
    }

    /// Sets the clock, also backwards.
    pub fn set(&self, now: Timestamp) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// The time it shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This clock as a file system takes it.
    #[must_use]
    pub fn clock(&self) -> Clock {
        let this = self.clone();
        Arc::new(move || this.now())
    }

    /// This clock, moved on by a microsecond each time it is asked.
    #[must_use]
    pub fn ticking(&self) -> Clock {
        let this = self.clone();
        Arc::new(move || {
            this.advance(Duration::from_micros(1));
            this.now()
        })
    }
}

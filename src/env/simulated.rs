//! A clock that stands still until it is moved.

use super::Clock;
use parking_lot::Mutex;
use std::pin::Pin;
use std::time::Duration;
use vfs::Timestamp;

/// Starts on 1 January 2030 and moves only when told to, plus one microsecond a
/// look, so that two events never have the same time.
#[derive(Debug)]
pub struct SimulatedClock {
    elapsed: Mutex<Duration>,
}

impl SimulatedClock {
    const START_SECONDS: i64 = 1_893_456_000;

    pub(super) fn new() -> Self {
        Self { elapsed: Mutex::new(Duration::ZERO) }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        *self.elapsed.lock() += by;
    }

    fn tick(&self) -> Duration {
        let mut elapsed = self.elapsed.lock();
        *elapsed += Duration::from_micros(1);
        *elapsed
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        let elapsed = self.tick();
        let seconds = i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX / 2);
        Timestamp { seconds: Self::START_SECONDS + seconds, nanoseconds: elapsed.subsec_nanos() }
    }

    fn monotonic(&self) -> Duration {
        self.tick()
    }

    fn sleep(&self, by: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.advance(by);
        Box::pin(tokio::task::yield_now())
    }
}

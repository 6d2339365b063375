//! Strangers, who may stay for a while only.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The time that somebody who has connected has to show that it may be here, by whatever
/// the protocol has for that.
#[derive(Debug)]
pub struct Probation {
    /// The end; `None` if there is none.
    until: Option<Instant>,
    is_passed: AtomicBool,
}

#[expect(clippy::disallowed_methods, reason = "how long peers are idle is no simulated time")]
fn now() -> Instant {
    Instant::now()
}

impl Probation {
    /// Begins now, and lasts for so long at most.
    #[must_use]
    pub fn begin(wait_max: Duration) -> Self {
        Self { until: now().checked_add(wait_max), is_passed: AtomicBool::new(false) }
    }

    /// It is no stranger.
    pub fn pass(&self) {
        self.is_passed.store(true, Ordering::Release);
    }

    /// Whether it has shown that it may be here.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.is_passed.load(Ordering::Acquire)
    }

    /// Fails if a stranger has been here for long enough.
    pub fn check(&self) -> io::Result<()> {
        if self.is_passed() || self.until.is_none_or(|until| now() < until) {
            return Ok(());
        }
        // Not what a read that may be tried again fails with.
        let what = "a stranger was here for long enough";
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, what))
    }
}

#[cfg(test)]
mod tests {
    use super::Probation;
    use std::time::Duration;

    #[test]
    fn it_ends_by_time_or_by_being_passed() {
        let probation = Probation::begin(Duration::ZERO);
        assert!(probation.check().is_err() && !probation.is_passed());
        probation.pass();
        assert!(probation.check().is_ok() && probation.is_passed());
        assert!(Probation::begin(Duration::from_secs(60)).check().is_ok());
        assert!(Probation::begin(Duration::MAX).check().is_ok());
    }
}

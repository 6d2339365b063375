//! Lines for the log that strangers could cause without end.

use std::time::Duration;

/// One line for each reason in this time.
const EVERY: Duration = Duration::from_secs(5);

/// Lets one line pass now and then and counts the others.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    passed_at: Option<Duration>,
    skipped: u64,
}

impl Throttle {
    /// Whether a line may be written at `now`; how many were not since the last.
    pub(crate) fn pass(&mut self, now: Duration) -> Option<u64> {
        match self.passed_at {
            Some(at) if now.saturating_sub(at) < EVERY => {
                self.skipped = self.skipped.saturating_add(1);
                None
            }
            _ => {
                self.passed_at = Some(now);
                Some(std::mem::take(&mut self.skipped))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{EVERY, Throttle};
    use std::time::Duration;

    #[test]
    fn a_line_now_and_then_says_how_many_there_were() {
        let mut throttle = Throttle::default();
        assert_eq!(throttle.pass(Duration::ZERO), Some(0));
        for milliseconds in 0..1000 {
            assert_eq!(throttle.pass(Duration::from_millis(milliseconds)), None);
        }
        assert_eq!(throttle.pass(EVERY), Some(1000));
        assert_eq!(throttle.pass(EVERY * 3), Some(0));
    }
}

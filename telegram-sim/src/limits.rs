//! What the service allows, and what it forgets.

use crate::RpcError;
use std::time::Duration;

/// So much at once, and so much a second from then on.
#[derive(Clone, Debug)]
pub struct Bucket {
    per_second: f64,
    burst: f64,
    level: f64,
    filled_at: Duration,
    name: &'static str,
}

impl Bucket {
    /// A bucket that is full; `name` is the error of one that is empty, without the
    /// number: `FLOOD_WAIT` or `FLOOD_PREMIUM_WAIT`.
    #[must_use]
    pub fn new(name: &'static str, burst: f64, per_second: f64) -> Self {
        Self { per_second, burst, level: burst, filled_at: Duration::ZERO, name }
    }

    /// Takes `amount`, or tells how many seconds to wait for it.
    fn take(&mut self, amount: f64, now: Duration) -> Result<(), RpcError> {
        let elapsed = now.saturating_sub(self.filled_at).as_secs_f64();
        self.level = (self.level + elapsed * self.per_second).min(self.burst);
        self.filled_at = now;
        // One request larger than the bucket passes a full one.
        let needed = amount.min(self.burst);
        if self.level >= needed {
            self.level -= needed;
            return Ok(());
        }
        let seconds = ((needed - self.level) / self.per_second).ceil().max(1.0);
        Err(RpcError::new(420, format!("{}_{seconds}", self.name)))
    }
}

/// What the service allows, and what it forgets. By default it is generous: nothing
/// floods, nothing expires.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Messages sent.
    pub sends: Option<Bucket>,
    /// Pages of history and listings read.
    pub pages: Option<Bucket>,
    /// Bytes uploaded.
    pub upload_bytes: Option<Bucket>,
    /// Bytes downloaded.
    pub download_bytes: Option<Bucket>,
    /// How long parts of a file stay that no message refers to.
    pub part_age_max: Option<Duration>,
    /// How long a file reference can be used.
    pub reference_age_max: Option<Duration>,
    /// How many of a channel's newest messages can be reached.
    pub messages_max: Option<usize>,
    /// How long every second message takes to show up in history.
    pub visibility_delay: Duration,
    /// How many sends are remembered, to notice one that is repeated.
    pub repeats_known: usize,
    /// Most parts of a file.
    pub parts_max: i32,
    /// How long every request takes.
    pub latency: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sends: None,
            pages: None,
            upload_bytes: None,
            download_bytes: None,
            part_age_max: None,
            reference_age_max: None,
            messages_max: None,
            visibility_delay: Duration::ZERO,
            repeats_known: 100_000,
            parts_max: 4000,
            latency: Duration::ZERO,
        }
    }
}

impl Limits {
    /// Takes from the bucket that a request draws on.
    pub(crate) fn take(&mut self, cost: Cost, now: Duration) -> Result<(), RpcError> {
        let (bucket, amount) = match cost {
            Cost::Send => (&mut self.sends, 1.0),
            Cost::Page => (&mut self.pages, 1.0),
            Cost::Upload(bytes) => (&mut self.upload_bytes, bytes as f64),
            Cost::Download(bytes) => (&mut self.download_bytes, bytes as f64),
        };
        bucket.as_mut().map_or(Ok(()), |bucket| bucket.take(amount, now))
    }
}

/// What a request costs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cost {
    Send,
    Page,
    Upload(usize),
    Download(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_names_the_time_that_is_enough() {
        let mut bucket = Bucket::new("FLOOD_WAIT", 2.0, 0.5);
        let mut now = Duration::from_secs(100);
        assert!(bucket.take(1.0, now).is_ok() && bucket.take(1.0, now).is_ok());
        let refused = bucket.take(1.0, now).unwrap_err();
        assert_eq!(refused, RpcError::new(420, "FLOOD_WAIT_2"));
        now += Duration::from_secs(2);
        assert!(bucket.take(1.0, now).is_ok());
        assert!(bucket.take(1.0, now).is_err());
        now += Duration::from_secs(1000);
        assert!(bucket.take(50.0, now).is_ok(), "a large one passes a full bucket");
        assert!(bucket.take(0.1, now).is_err());
    }
}

//! What time it is for the data centre, and chance.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tells the time since some fixed moment; a test may hand in its own, to let floods and
/// expiry pass without waiting.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl Clock {
    /// A clock of the test's own.
    #[must_use]
    pub fn new(now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The machine's clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "a server that is no part of the engine")]
    pub fn real() -> Self {
        let start = Instant::now();
        Self::new(move || start.elapsed())
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Duration {
        (self.0)()
    }
}

/// Wall-clock time since 1970: message ids and dates are made of it, whatever [`Clock`]
/// says, since clients check them.
#[expect(clippy::disallowed_methods, reason = "a server that is no part of the engine")]
pub(crate) fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Seconds since 1970 as the protocol writes them.
pub(crate) fn wall_seconds() -> i32 {
    i32::try_from(wall().as_secs()).unwrap_or(i32::MAX)
}

/// Waits, in real time.
#[expect(clippy::disallowed_methods, reason = "a server that is no part of the engine")]
pub(crate) async fn pause(by: Duration) {
    tokio::time::sleep(by).await;
}

/// Bytes that nobody can guess.
#[expect(clippy::disallowed_methods, reason = "a server that is no part of the engine")]
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has no randomness");
    bytes
}

/// A random number, as ids and hashes are.
pub(crate) fn random_i64() -> i64 {
    i64::from_le_bytes(random())
}

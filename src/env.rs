//! The seam to everything that is not a function of its inputs: the clock, the
//! random source and threads.
//!
//! Nothing in the engine asks for the time or for randomness in any other way
//! (`.clippy.toml` refuses it), so a test can run the whole engine under a clock
//! it moves by hand and randomness it can repeat. Also here, because every layer
//! needs it: directories that survive a power loss.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use vfs::Timestamp;

mod dirs;
mod random;
mod real;
mod simulated;

pub use dirs::{make_dirs, sync_dir};
pub use random::Random;
pub use simulated::SimulatedClock;

/// Tells the time and lets it pass.
pub trait Clock: Send + Sync + 'static {
    /// Wall-clock time; may jump.
    fn now(&self) -> Timestamp;
    /// Time since some fixed moment; never jumps.
    fn monotonic(&self) -> Duration;
}

/// The environment of one engine; clones share it.
#[derive(Clone)]
pub struct Env {
    clock: Arc<dyn Clock>,
    random: Arc<Random>,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env").finish_non_exhaustive()
    }
}

impl Env {
    /// The machine's own clock and the operating system's randomness.
    #[must_use]
    pub fn real() -> Self {
        Self { clock: Arc::new(real::SystemClock::new()), random: Arc::new(Random::system()) }
    }

    /// A clock moved by hand and randomness that repeats with the seed.
    #[must_use]
    pub fn simulated(seed: u64) -> (Self, Arc<SimulatedClock>) {
        let clock = Arc::new(SimulatedClock::new());
        let env = Self { clock: clock.clone(), random: Arc::new(Random::seeded(seed)) };
        (env, clock)
    }

    /// A simulated clock and the random bytes that somebody else used, to make
    /// what they made.
    #[cfg(test)]
    pub(crate) fn repeating(random: &[u8]) -> Self {
        Self { random: Arc::new(Random::known(random)), ..Self::simulated(0).0 }
    }

    /// Wall-clock time; may jump.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Time since some fixed moment; never jumps.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Fills `buffer` with random bytes.
    pub fn fill_random(&self, buffer: &mut [u8]) {
        self.random.fill(buffer);
    }

    /// Random bytes as an array.
    #[must_use]
    pub fn random_array<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill_random(&mut bytes);
        bytes
    }

    /// Starts a named thread.
    pub fn spawn(
        &self,
        name: &str,
        body: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<std::thread::JoinHandle<()>> {
        std::thread::Builder::new().name(name.to_owned()).spawn(body)
    }
}

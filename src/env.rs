//! The seam to everything that is not a function of its inputs: the clock, the
//! random source and threads.
//!
//! Nothing in the engine asks for the time or for randomness in any other way
//! (`.clippy.toml` refuses it), so a test can run the whole engine under a clock
//! it moves by hand and randomness it can repeat. Also here, because every layer
//! needs it: directories that survive a power loss.

use std::fmt;
use std::pin::Pin;
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
    /// Ends when `by` has passed; needs a tokio runtime around it.
    fn sleep(&self, by: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The environment of one engine; clones share it.
#[derive(Clone)]
pub struct Env {
    clock: Arc<dyn Clock>,
    random: Arc<Random>,
    /// Threads that share one piece of work.
    workers: usize,
}

/// Most threads that share one piece of work.
const WORKERS_MAX: usize = 4;

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env").finish_non_exhaustive()
    }
}

impl Env {
    /// The machine's own clock and the operating system's randomness.
    #[must_use]
    pub fn real() -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            clock: Arc::new(real::SystemClock::new()),
            random: Arc::new(Random::system()),
            workers: workers.min(WORKERS_MAX),
        }
    }

    /// A clock moved by hand and randomness that repeats with the seed.
    #[must_use]
    pub fn simulated(seed: u64) -> (Self, Arc<SimulatedClock>) {
        let clock = Arc::new(SimulatedClock::new());
        let random = Arc::new(Random::seeded(seed));
        // On one thread, so that randomness repeats.
        let env = Self { clock: clock.clone(), random, workers: 1 };
        (env, clock)
    }

    /// Does `work` for all items, on several cores if there are; the results are in
    /// the order of the items.
    pub fn map<T: Sync, R: Send>(&self, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
        let each = items.len().div_ceil(self.workers).max(1);
        let all = |items: &[T]| items.iter().map(&work).collect::<Vec<R>>();
        let (own, others) = items.split_at(each.min(items.len()));
        if others.is_empty() {
            return all(own);
        }
        std::thread::scope(|scope| {
            let all = &all;
            let start = |items| {
                let thread = std::thread::Builder::new();
                // What no thread can be had for is done here.
                thread.spawn_scoped(scope, move || all(items)).map_err(|_| items)
            };
            let started: Vec<_> = others.chunks(each).map(start).collect();
            let mut results = all(own);
            for thread in started {
                results.extend(match thread {
                    Ok(thread) => thread.join().unwrap_or_else(|e| std::panic::resume_unwind(e)),
                    Err(items) => all(items),
                });
            }
            results
        })
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

    /// Waits until `by` has passed; needs a tokio runtime around it.
    pub async fn sleep(&self, by: Duration) {
        self.clock.sleep(by).await;
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

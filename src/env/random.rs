//! Random bytes: from the operating system, or repeatable for simulation.

use parking_lot::Mutex;
use zeroize::Zeroize;

/// Bytes fetched at a time: a system call costs more than sealing a small row.
const BUFFER_LEN: usize = 4096;

/// A source of random bytes that threads share.
pub struct Random {
    state: Mutex<State>,
}

impl std::fmt::Debug for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Random").finish_non_exhaustive()
    }
}

enum State {
    /// Bytes of the operating system's generator, each handed out once and wiped.
    System { buffer: Box<[u8; BUFFER_LEN]>, used: usize },
    /// The output of BLAKE3 over a seed.
    Seeded(Box<blake3::OutputReader>),
    /// Bytes that are known, each handed out once.
    #[cfg(test)]
    Known(std::collections::VecDeque<u8>),
}

impl Random {
    /// The operating system's generator.
    #[must_use]
    pub fn system() -> Self {
        let state = State::System { buffer: Box::new([0; BUFFER_LEN]), used: BUFFER_LEN };
        Self { state: Mutex::new(state) }
    }

    /// Repeats with the seed; for tests only.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        let reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
        Self { state: Mutex::new(State::Seeded(Box::new(reader))) }
    }

    /// Hands out known bytes; a test that asks for more fails.
    #[cfg(test)]
    pub(super) fn known(bytes: &[u8]) -> Self {
        Self { state: Mutex::new(State::Known(bytes.to_vec().into())) }
    }

    /// Fills `out`.
    pub fn fill(&self, out: &mut [u8]) {
        match &mut *self.state.lock() {
            State::Seeded(reader) => reader.fill(out),
            #[cfg(test)]
            State::Known(bytes) => {
                assert!(bytes.len() >= out.len(), "more random bytes are asked for than known");
                let taken: Vec<u8> = bytes.drain(..out.len()).collect();
                out.copy_from_slice(&taken);
            }
            State::System { .. } if out.len() > BUFFER_LEN => system_fill(out),
            State::System { buffer, used } => {
                if BUFFER_LEN - *used < out.len() {
                    system_fill(&mut buffer[..]);
                    *used = 0;
                }
                let taken = &mut buffer[*used..*used + out.len()];
                out.copy_from_slice(taken);
                taken.zeroize();
                *used += out.len();
            }
        }
    }
}

impl Drop for Random {
    fn drop(&mut self) {
        if let State::System { buffer, .. } = self.state.get_mut() {
            buffer.zeroize();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is what Env hands out")]
fn system_fill(out: &mut [u8]) {
    getrandom::fill(out).expect("the operating system has no randomness");
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn system_bytes_do_not_repeat() {
        let random = Random::system();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..2000 {
            let mut bytes = [0; 16];
            random.fill(&mut bytes);
            assert!(seen.insert(bytes));
        }
    }

    #[test]
    fn seeds_repeat() {
        let take = |seed| {
            let random = Random::seeded(seed);
            let mut bytes = [0; 40];
            random.fill(&mut bytes);
            bytes
        };
        assert_eq!(take(7), take(7));
        assert_ne!(take(7), take(8));
    }
}

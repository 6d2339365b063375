//! What goes wrong: single faults on demand, and chance that repeats with its seed.

use crate::RpcError;
use std::time::Duration;

/// What happens to a request in place of the ordinary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It fails and nothing is done.
    Fail(RpcError),
    /// The connection ends before anything is done.
    Drop,
    /// It is done, then the connection ends and the answer is lost.
    LoseAnswer,
    /// It is done, and the answer comes late.
    Delay(Duration),
    /// Nothing is done and no answer ever comes; the connection stays.
    Hang,
}

impl Action {
    /// It fails with this code and name.
    #[must_use]
    pub fn fail(code: i32, name: &str) -> Self {
        Self::Fail(RpcError::new(code, name))
    }
}

/// A fault that waits for its request.
#[derive(Clone, Debug)]
pub struct Fault {
    method: &'static str,
    skip: usize,
    times: usize,
    action: Action,
}

impl Fault {
    /// Happens to the next request of this method, as `upload.getFile`.
    #[must_use]
    pub fn new(method: &'static str, action: Action) -> Self {
        Self { method, skip: 0, times: 1, action }
    }

    /// Lets so many requests pass first.
    #[must_use]
    pub fn after(self, skip: usize) -> Self {
        Self { skip, ..self }
    }

    /// Happens so many times.
    #[must_use]
    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }
}

/// The faults that wait, in order.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// How many have not happened yet.
    pub(crate) fn waiting(&self) -> usize {
        self.0.iter().map(|fault| fault.times).sum()
    }

    pub(crate) fn take(&mut self, method: &str) -> Option<Action> {
        for fault in self.0.iter_mut().filter(|fault| fault.method == method && fault.times > 0) {
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.times -= 1;
            return Some(fault.action.clone());
        }
        None
    }
}

/// Faults at random, the same for the same seed and order of requests.
#[derive(Clone, Debug)]
pub struct Chaos {
    state: u64,
    per_mille: u64,
}

impl Chaos {
    /// Of a thousand requests about `per_mille` go wrong.
    #[must_use]
    pub fn new(seed: u64, per_mille: u64) -> Self {
        Self { state: seed ^ 0x9e37_79b9_7f4a_7c15, per_mille }
    }

    /// `SplitMix64`.
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// What happens to a request of this method, if anything does.
    pub(crate) fn strike(&mut self, method: &str) -> Option<Action> {
        let spared = !["upload.", "messages.", "channels."].iter().any(|p| method.starts_with(p));
        if spared || self.draw() % 1000 >= self.per_mille {
            return None;
        }
        Some(match (self.draw() % 8, method) {
            (0 | 1, _) => Action::Drop,
            (2 | 3, _) => Action::LoseAnswer,
            (4, _) => Action::fail(500, "RPC_CALL_FAIL"),
            (5, "upload.getFile") => Action::fail(400, "FILE_REFERENCE_EXPIRED"),
            (5, "messages.sendMedia") => Action::fail(400, "FILE_PART_0_MISSING"),
            (5, _) => Action::fail(-503, "Timeout"),
            (6, _) => Action::fail(420, "FLOOD_WAIT_1"),
            _ => Action::Delay(Duration::from_millis(20)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_waits_for_its_turn() {
        let mut faults = Faults::default();
        faults.add(Fault::new("a", Action::Drop).after(1).times(2));
        faults.add(Fault::new("a", Action::Hang));
        assert_eq!(faults.take("b"), None);
        let taken: Vec<_> = (0..5).map(|_| faults.take("a")).collect();
        let drop = Some(Action::Drop);
        assert_eq!(taken, [Some(Action::Hang), drop.clone(), drop, None, None]);
        assert_eq!(faults.waiting(), 0);
    }

    #[test]
    fn chance_repeats_with_its_seed() {
        let strikes = |seed| {
            let mut chaos = Chaos::new(seed, 200);
            (0..1000).map(|_| chaos.strike("upload.getFile")).collect::<Vec<_>>()
        };
        assert_eq!(strikes(1), strikes(1));
        assert_ne!(strikes(1), strikes(2));
        let count = strikes(3).iter().flatten().count();
        assert!((120..280).contains(&count), "{count}");
        assert_eq!(Chaos::new(1, 1000).strike("auth.signIn"), None);
    }
}

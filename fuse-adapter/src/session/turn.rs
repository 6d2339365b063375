//! Whose turn it is.
//!
//! A lock that wakes whoever has waited the shortest: that thread's stack and registers
//! are the warmest, and no more threads run than are needed.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;

/// One turn that threads take.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    is_taken: bool,
    waiting: Vec<(Thread, Arc<AtomicBool>)>,
}

/// The right to do what one thread at a time may do; passed on when it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits for the turn.
    pub(super) fn take(&self) -> Turn<'_> {
        let given = Arc::new(AtomicBool::new(false));
        {
            let mut queue = self.0.lock();
            if !queue.is_taken {
                queue.is_taken = true;
                return Turn(self);
            }
            queue.waiting.push((std::thread::current(), Arc::clone(&given)));
        }
        while !given.load(Ordering::Acquire) {
            std::thread::park();
        }
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let next = {
            let mut queue = self.0.0.lock();
            let next = queue.waiting.pop();
            queue.is_taken = next.is_some();
            next
        };
        if let Some((thread, given)) = next {
            given.store(true, Ordering::Release);
            thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Turns;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn one_at_a_time_and_nobody_is_forgotten() {
        let (turns, inside, total) = (Turns::default(), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let turn = turns.take();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        total.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(turn);
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 8000);
    }
}

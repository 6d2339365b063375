//! How many bytes all connections of a server have under way.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of requests and answers under way, of all connections together.
///
/// Who has something under way reads no more while there is too much in all. Who has
/// nothing may always begin with one message: so nobody waits for nothing but others who
/// wait, and there may be a message of each connection beyond what is allowed.
#[derive(Debug)]
pub struct Load {
    bytes: AtomicUsize,
    max: usize,
}

impl Load {
    /// Nothing, of so many bytes at most.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), max }
    }

    /// So many bytes more are under way.
    pub fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many of them are not any more.
    pub fn remove(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How many there are.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether who has something under way is to wait.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes() >= self.max
    }
}

#[cfg(test)]
mod tests {
    use super::Load;

    #[test]
    fn what_is_under_way_is_counted() {
        let load = Load::new(10);
        load.add(9);
        assert!(!load.is_full());
        load.add(5);
        assert!(load.is_full());
        load.remove(5);
        assert_eq!((load.is_full(), load.bytes()), (false, 9));
        load.remove(9);
        assert_eq!(load.bytes(), 0);
    }
}

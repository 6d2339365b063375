//! The numbers the kernel knows open handles by.
//!
//! A number is never used twice, so a late request cannot reach somebody else's
//! handle. The table is cut into shards because every read and write looks into it.

use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vfs::{ErrorKind, Result};

/// More than cores that contend; a power of two, so that the shard is the low bits.
const SHARD_COUNT: usize = 16;

/// Open handles by number.
pub(crate) struct Handles<H> {
    shards: [RwLock<HashMap<u64, Arc<H>>>; SHARD_COUNT],
    next: AtomicU64,
}

impl<H> Handles<H> {
    pub(crate) fn new() -> Self {
        Self { shards: std::array::from_fn(|_| RwLock::default()), next: AtomicU64::new(1) }
    }

    fn shard(&self, number: u64) -> &RwLock<HashMap<u64, Arc<H>>> {
        &self.shards[number as usize % SHARD_COUNT]
    }

    /// Keeps `handle` until its number is [removed](Self::remove).
    pub(crate) fn insert(&self, handle: H) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.shard(number).write().insert(number, Arc::new(handle));
        number
    }

    /// The handle behind a number.
    pub(crate) fn get(&self, number: u64) -> Result<Arc<H>> {
        let found = self.shard(number).read().get(&number).cloned();
        found.ok_or_else(|| ErrorKind::BadHandle.into())
    }

    /// Forgets a number. The handle closes when the last request on it is done.
    pub(crate) fn remove(&self, number: u64) -> Option<Arc<H>> {
        self.shard(number).write().remove(&number)
    }
}

#[cfg(test)]
mod tests {
    use super::Handles;
    use std::sync::Arc;
    use vfs::ErrorKind;

    #[test]
    fn a_number_is_never_used_twice_and_removal_closes() {
        let table = Handles::new();
        let probe = Arc::new(());
        let first = table.insert(probe.clone());
        let second = table.insert(probe.clone());
        assert_ne!(first, second);
        assert_eq!(Arc::strong_count(&probe), 3);

        let in_use = table.get(first).unwrap();
        drop(table.remove(first));
        assert_eq!(table.get(first).unwrap_err().kind(), ErrorKind::BadHandle);
        assert_eq!(Arc::strong_count(&probe), 3, "a request still uses the handle");
        drop(in_use);
        assert_eq!(Arc::strong_count(&probe), 2);
        assert!(table.insert(probe) > second);
    }
}

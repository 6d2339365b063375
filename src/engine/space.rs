//! Quota and `statfs`.

use super::{Engine, Inner};
use crate::meta::state::State;
use vfs::{ErrorKind, Result, VolumeStat};

/// What is reported where nothing limits: far above any store, below 2^63 as
/// `df` needs it.
const UNLIMITED_BYTES: u64 = 1 << 60;
/// Inode numbers of one machine.
const INODES_TOTAL: u64 = 1 << 47;

impl Inner {
    /// Refuses what would go beyond the quota.
    pub(super) fn check_quota(&self, state: &State, more: u64) -> Result<()> {
        match self.settings.quota_bytes {
            Some(quota) if state.usage.bytes + state.dirty_bytes + more > quota => {
                Err(ErrorKind::Quota.into())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check_inode_quota(&self, state: &State) -> Result<()> {
        if state.usage.inodes >= INODES_TOTAL { Err(ErrorKind::NoSpace.into()) } else { Ok(()) }
    }
}

impl Engine {
    pub(super) fn do_statfs(&self) -> Result<VolumeStat> {
        // Asks a disk, so not under the lock.
        let room = self.inner.store.space();
        let (usage, dirty_bytes) = {
            let state = self.inner.state.lock();
            (state.usage, state.dirty_bytes)
        };
        let used = usage.bytes.saturating_add(dirty_bytes);
        // A store on this machine is as large as its disk, a quota or not.
        let room = room.unwrap_or(UNLIMITED_BYTES);
        let bytes_free = match self.inner.settings.quota_bytes {
            Some(quota) => quota.saturating_sub(used).min(room),
            None => room,
        };
        Ok(VolumeStat {
            bytes_total: used.saturating_add(bytes_free),
            bytes_free,
            inodes_total: INODES_TOTAL,
            inodes_free: INODES_TOTAL.saturating_sub(usage.inodes),
        })
    }
}

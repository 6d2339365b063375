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
    /// Whether `more` bytes would go beyond the quota, as far as is known before
    /// what was written lately is saved.
    pub(super) fn is_beyond_quota(&self, state: &State, more: u64) -> bool {
        let claimed = state.claimed_bytes().saturating_add(more);
        self.settings.quota_bytes.is_some_and(|quota| claimed > quota)
    }

    /// Refuses what would go beyond the quota.
    pub(super) fn check_quota(&self, state: &State, more: u64) -> Result<()> {
        if self.is_beyond_quota(state, more) { Err(ErrorKind::Quota.into()) } else { Ok(()) }
    }

    /// Counts `more` bytes against the quota, until a commit knows exactly.
    pub(super) fn claim(&self, state: &mut State, more: u64) -> Result<()> {
        self.check_quota(state, more)?;
        state.new_bytes += more;
        Ok(())
    }

    pub(super) fn check_inode_quota(&self, state: &State) -> Result<()> {
        if state.usage.inodes >= INODES_TOTAL { Err(ErrorKind::NoSpace.into()) } else { Ok(()) }
    }
}

impl Engine {
    pub(super) fn do_statfs(&self) -> Result<VolumeStat> {
        // Asks a disk, so not under the lock.
        let room = self.inner.store.space();
        let (usage, used) = {
            let state = self.inner.state.lock();
            (state.usage, state.claimed_bytes())
        };
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

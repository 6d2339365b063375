//! Advisory locks.

use super::{Session, context};
use crate::fids::Fid;
use crate::locks::{everything, is_whole, wanted};
use crate::wire::{ClaimedLock, Reply, kind, lock};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vfs::{At, Context, ErrorKind, Lock, LockWait, Result, Vfs};

/// Processes whose lock of a whole file another may take over in one request.
const HEIRS_MAX: usize = 16;

impl<V: Vfs> Session<V> {
    /// Takes or drops a lock. Never waits: who wants to is told to ask again, which is
    /// what Linux does.
    pub(super) async fn lock(&self, asked: &ClaimedLock) -> Result<Reply> {
        let fid = self.fid(asked.fid)?;
        let opened = fid.opened().ok_or(ErrorKind::BadHandle)?;
        let (wanted, unlocks) = wanted(self.client, asked)?;
        let (cx, file) = (context(fid.cred()), At::Open(&opened.handle));
        let done = Reply::to(kind::LOCK, 1);
        if unlocks {
            self.fs.unlock(cx, file, &wanted).await?;
            if is_whole(&wanted) {
                self.held.remove(fid.ino, wanted.owner);
            }
            return Ok(done.u8(lock::SUCCESS));
        }
        if !self.try_lock(cx, file, &wanted, (asked.fid, &fid)).await? {
            return Ok(done.u8(lock::BLOCKED));
        }
        self.held.add(fid.ino, wanted.owner, asked.fid);
        opened.has_locked.store(true, Ordering::Release);
        if !self.fids.is_current(asked.fid, &fid) {
            // Let go of meanwhile, by a client that does not wait for its answers.
            self.release_locks(asked.fid, &fid).await;
        }
        Ok(done.u8(lock::SUCCESS))
    }

    /// Whether the lock was to be had.
    ///
    /// What was opened once and is used by several processes has one `flock(2)`, which
    /// Linux sends in the name of whichever process changed it last. So a lock of the
    /// whole file that was taken through this fid alone gives way: Linux would not ask
    /// if it were another's.
    async fn try_lock(
        &self,
        cx: Context<'_>,
        file: At<'_, V::Handle>,
        wanted: &Lock,
        (number, fid): (u32, &Arc<Fid<V::Handle>>),
    ) -> Result<bool> {
        for _ in 0..HEIRS_MAX {
            match self.fs.lock(cx, file, wanted, LockWait::Try).await {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            let Some(other) = self.fs.lock_conflict(cx, file, wanted).await? else { continue };
            let gives_way = is_whole(wanted)
                && is_whole(&other)
                && self.held.is_only_by(fid.ino, other.owner, number);
            if !gives_way {
                return Ok(false);
            }
            self.fs.unlock(cx, file, &other).await?;
            self.held.remove(fid.ino, other.owner);
        }
        Ok(false)
    }

    /// Tells what would refuse a lock.
    pub(super) async fn conflict(&self, asked: &ClaimedLock) -> Result<Reply> {
        let fid = self.fid(asked.fid)?;
        let opened = fid.opened().ok_or(ErrorKind::BadHandle)?;
        let (probe, _) = wanted(self.client, asked)?;
        let file = At::Open(&opened.handle);
        let found = self.fs.lock_conflict(context(fid.cred()), file, &probe).await?;
        let reply = Reply::to(kind::GETLOCK, 32);
        let Some(found) = found else {
            let reply = reply.u8(lock::UNLOCK).u64(asked.start).u64(asked.len);
            return Ok(reply.u32(asked.process).string(&asked.machine));
        };
        let len = if found.end == u64::MAX { 0 } else { found.end - found.start };
        let reply = reply.u8(if found.exclusive { lock::WRITE } else { lock::READ });
        // Which machine it is on is known of this client only.
        let machine = if found.owner.client == self.client { &asked.machine[..] } else { b"" };
        Ok(reply.u64(found.start).u64(len).u32(found.pid).string(machine))
    }

    /// Drops the locks that were taken through a fid that is gone.
    pub(super) async fn release_locks(&self, number: u32, fid: &Fid<V::Handle>) {
        let Some(opened) = fid.opened() else { return };
        if !opened.has_locked.load(Ordering::Acquire) {
            return;
        }
        for owner in self.held.clunked(fid.ino, number) {
            let file = At::Open(&opened.handle);
            let unlocked = self.fs.unlock(context(fid.cred()), file, &everything(owner)).await;
            if let Err(error) = unlocked {
                log::debug!("unlocking inode {}: {error}", fid.ino.get());
            }
        }
    }
}

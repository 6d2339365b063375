//! What happens without being asked: full blocks are sealed while their writer goes on;
//! a commit within a second of a change, an upload within the configured delay.

use super::Inner;
use crate::meta::row::PackState;
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a change may stay in memory only.
const COMMIT_DELAY: Duration = Duration::from_secs(1);
/// After a failure, how long before it is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Files that wait to be sealed; writers seal what does not fit.
const SEALED_NEXT_MAX: usize = 64;

/// The threads that seal, save and upload.
#[derive(Debug, Default)]
pub(crate) struct Background {
    stop: Arc<(Mutex<bool>, Condvar)>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Files with full blocks to seal, while there is a thread that does it.
    sealing: Mutex<Option<SyncSender<u64>>>,
}

impl Background {
    /// Starts the threads, once.
    pub(super) fn start(&self, inner: &Arc<Inner>, runtime: tokio::runtime::Handle) {
        let mut threads = self.threads.lock();
        if !threads.is_empty() {
            return;
        }
        let (stop, weak, env) = (self.stop.clone(), Arc::downgrade(inner), inner.env.clone());
        match env.spawn("tgcryptfs-saver", move || run(&stop, &weak, &runtime)) {
            Ok(started) => threads.push(started),
            Err(error) => log::error!("nothing is saved without being asked: no thread: {error}"),
        }
        let weak = Arc::downgrade(inner);
        let (sender, files) = std::sync::mpsc::sync_channel(SEALED_NEXT_MAX);
        match env.spawn("tgcryptfs-sealer", move || seal(&files, &weak)) {
            Ok(started) => {
                threads.push(started);
                *self.sealing.lock() = Some(sender);
            }
            Err(error) => log::warn!("writers seal their blocks: no thread: {error}"),
        }
    }

    /// Hands a file with full blocks over; says whether somebody takes it.
    pub(super) fn seal(&self, ino: u64) -> bool {
        self.sealing.lock().as_ref().is_some_and(|files| files.try_send(ino).is_ok())
    }

    /// Ends the threads and waits for them.
    pub(super) fn stop(&self) {
        *self.stop.0.lock() = true;
        self.stop.1.notify_all();
        drop(self.sealing.lock().take());
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            if thread.thread().id() != std::thread::current().id() {
                // A panic there was reported there.
                let _ = thread.join();
            }
        }
    }
}

fn seal(files: &Receiver<u64>, weak: &Weak<Inner>) {
    for ino in files {
        let Some(inner) = weak.upgrade() else { return };
        if let Err(error) = inner.seal_ahead(ino) {
            log::debug!("sealing ahead of a commit: {error}");
        }
    }
}

fn run(stop: &(Mutex<bool>, Condvar), weak: &Weak<Inner>, runtime: &tokio::runtime::Handle) {
    let mut waiting_since = None;
    let mut retry_at = Duration::ZERO;
    loop {
        {
            let mut is_stopped = stop.0.lock();
            if !*is_stopped {
                stop.1.wait_for(&mut is_stopped, COMMIT_DELAY);
            }
            if *is_stopped {
                return;
            }
        }
        let Some(inner) = weak.upgrade() else { return };
        let now = inner.env.monotonic();
        if inner.settings.read_only || now < retry_at {
            continue;
        }
        let has_changes = !inner.state.lock().is_clean();
        if has_changes && let Err(error) = runtime.block_on(inner.commit()) {
            log::error!("saving to the local disk failed: {error}");
            retry_at = now + RETRY_DELAY;
            continue;
        }
        // Also what an fsync has committed meanwhile, or the last run left unsent.
        let has_unsent = inner.has_unsent.load(Ordering::Acquire);
        waiting_since = has_unsent.then(|| waiting_since.unwrap_or(now));
        let delay = Duration::from_millis(inner.settings.upload_delay_ms);
        let is_due = waiting_since.is_some_and(|since| now >= since + delay);
        let result = if is_due {
            runtime.block_on(inner.sync_store())
        } else if inner.blocks.packs_in(PackState::Closed).is_empty() {
            Ok(())
        } else {
            // Full packs need not wait for the rest.
            runtime.block_on(inner.upload_full_packs()).map_err(Into::into)
        };
        match result {
            Ok(()) => {}
            Err(error) => {
                log::warn!("uploading failed, it is tried again: {error}");
                *inner.last_error.lock() = Some(error.to_string());
                retry_at = now + RETRY_DELAY;
            }
        }
    }
}

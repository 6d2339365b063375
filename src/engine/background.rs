//! What happens without being asked: a commit within a second of a change, an
//! upload within the configured delay.

use super::Inner;
use crate::meta::row::PackState;
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a change may stay in memory only.
const COMMIT_DELAY: Duration = Duration::from_secs(1);
/// After a failure, how long before it is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// The thread that saves and uploads.
#[derive(Debug, Default)]
pub(crate) struct Background {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Background {
    /// Starts the thread, once.
    pub(super) fn start(&self, inner: &Arc<Inner>, runtime: tokio::runtime::Handle) {
        let mut thread = self.thread.lock();
        if thread.is_some() {
            return;
        }
        let (stop, weak, env) = (self.stop.clone(), Arc::downgrade(inner), inner.env.clone());
        match env.spawn("tgcryptfs-saver", move || run(&stop, &weak, &runtime)) {
            Ok(started) => *thread = Some(started),
            Err(error) => log::error!("nothing is saved without being asked: no thread: {error}"),
        }
    }

    /// Ends the thread and waits for it.
    pub(super) fn stop(&self) {
        *self.stop.0.lock() = true;
        self.stop.1.notify_all();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic there was reported there.
            let _ = thread.join();
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
            runtime.block_on(inner.upload_packs()).map_err(Into::into)
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

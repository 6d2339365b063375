//! Waiting for a store that is out of reach, or that does not keep up.
//!
//! Clients of NFS are told to come again, and do. Programs behind FUSE and 9P would be
//! given the error, and most would take what they were doing for failed. So calls that
//! come from there wait first, for as long as most troubles of a network last.

use super::{Engine, Inner};
use crate::env::Env;
use std::time::Duration;
use vfs::ErrorKind;

/// How long a call waits for a store that is out of reach before it fails.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long before the store is tried again meanwhile.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// How long a writer that will come again waits while another one uploads.
const TURN_WAIT_MAX: Duration = Duration::from_secs(2);
/// How often it looks whether that is over.
const TURN_RETRY_DELAY: Duration = Duration::from_millis(50);

/// What a caller makes of a store that is out of reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Patience {
    /// It asks again by itself, so it is told at once.
    #[default]
    ComesAgain,
    /// It takes it for a failure, so it is told as late as possible.
    Waits,
}

/// How long something waits for the store.
pub(super) struct Wait<'a> {
    env: &'a Env,
    until: Duration,
}

impl<'a> Wait<'a> {
    fn begin(env: &'a Env, patience: Patience) -> Self {
        let now = env.monotonic();
        let until = if patience == Patience::Waits { now + WAIT_MAX } else { now };
        Self { env, until }
    }

    /// Whether to try again what ended like this: if so, a moment has passed.
    pub(super) async fn tries_again(&self, error: Option<&vfs::Error>) -> bool {
        let is_out_of_reach = error.is_some_and(|error| error.kind() == ErrorKind::Unavailable);
        if !is_out_of_reach || self.env.monotonic() >= self.until {
            return false;
        }
        self.env.sleep(RETRY_DELAY).await;
        true
    }
}

impl Engine {
    /// The same file system for callers that do not come again when they are told that the
    /// store is out of reach: their calls wait a minute for it before they fail.
    #[must_use]
    pub fn patient(&self) -> Self {
        Self { inner: self.inner.clone(), patience: Patience::Waits }
    }

    pub(super) fn wait(&self) -> Wait<'_> {
        Wait::begin(&self.inner.env, self.patience)
    }
}

impl Inner {
    /// Holds writers back while too much waits for the store, for a while even while the
    /// store cannot be reached.
    pub(super) async fn wait_for_store(&self, patience: Patience) -> vfs::Result<()> {
        if !self.has_too_much_unsent() {
            return Ok(());
        }
        let wait = Wait::begin(&self.env, patience);
        while self.has_too_much_unsent() {
            let told = match patience {
                Patience::ComesAgain if !self.may_upload_soon().await => {
                    Err(ErrorKind::Unavailable.into())
                }
                // Whoever was at it has made room.
                _ if !self.has_too_much_unsent() => Ok(()),
                _ => self.sync_to_store(|_| false).await,
            };
            if !wait.tries_again(told.as_ref().err()).await {
                told?;
            }
        }
        Ok(())
    }

    fn has_too_much_unsent(&self) -> bool {
        self.blocks.unsent_bytes() > self.settings.dirty_max
    }

    /// Waits until nobody else uploads, but not for long; whether that is so.
    async fn may_upload_soon(&self) -> bool {
        let until = self.env.monotonic() + TURN_WAIT_MAX;
        while self.publisher.try_lock().is_err() {
            if self.env.monotonic() >= until {
                return false;
            }
            self.env.sleep(TURN_RETRY_DELAY).await;
        }
        true
    }
}

//! Mounting, and the life of a mount.

mod attach;
mod detach;
mod guard;
mod helper;
mod point;
mod relay;
mod table;

use crate::core::Core;
use crate::device::Device;
use crate::error::MountError;
use crate::options::Options;
use crate::service::Service;
use crate::session::Session;
use detach::{InUse, detach};
use guard::Guard;
use parking_lot::{Condvar, Mutex};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use table::Row;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use table::parse as parse_table;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use vfs::Vfs;

/// Mounts `fs` as `options` say. Requests that have to wait are finished on `runtime`.
///
/// The mount is usable when this returns, and lasts until it is unmounted by anybody or
/// the [`Mount`] is dropped. `fs` lives as long as the mount does.
///
/// # Errors
/// Whatever [`MountError`] names; the mount point is then as it was before.
pub fn mount<V: Vfs>(fs: Arc<V>, runtime: Handle, options: Options) -> Result<Mount, MountError> {
    let path = point::prepare(&options)?;
    // Before the kernel can be told anything that might change.
    let changes = fs.changes();
    let read_ahead = options.read_ahead;
    let unmount_on_death = options.unmount_on_death;
    let device = attach::attach(&path, &options)?;

    // Without its device a mount is dead, and must not stay.
    let attached = Attached::find(path.clone())
        .inspect_err(|_| detach(&path, InUse::Linger).unwrap_or_else(|e| log::error!("{e}")))?;
    let threads = options.thread_count();
    let relaying = runtime.clone();
    let service = Service::new(Core::new(fs, options), runtime);
    let session = Device::new(device)
        .and_then(|device| Session::start(device, service))
        .map_err(|error| attached.broken(&error))?;

    let relay = Relay(relaying.spawn(relay::relay(changes, session.device())).abort_handle());
    let state = Arc::new(State {
        companions: Mutex::new(Some((relay, attached.guard(unmount_on_death)))),
        attached,
        ended: Mutex::new(None),
        bell: Condvar::new(),
    });
    state.attached.read_ahead(read_ahead);
    let session_state = Arc::clone(&state);
    std::thread::Builder::new()
        .name("fuse-session".to_owned())
        .spawn(move || session_state.end(session.run(threads)))
        .map_err(|error| state.attached.broken(&error))?;
    Ok(Mount { state })
}

/// A mount on its directory. Dropped on a failure to start, it is taken off again.
#[derive(Debug)]
struct Attached {
    path: PathBuf,
    row: Row,
    /// `None` before Linux 6.8.
    unique_id: Option<u64>,
    /// Whether there is nothing left to take off.
    gone: AtomicBool,
}

impl Attached {
    /// Finds what was just mounted on `path`.
    fn find(path: PathBuf) -> Result<Self, MountError> {
        match table::top(&path) {
            Ok(Some(row)) if row.is_fuse() => {
                let unique_id = table::unique_id(&path);
                Ok(Self { path, row, unique_id, gone: AtomicBool::new(false) })
            }
            Ok(_) => {
                let message = "the kernel does not list the new mount".to_owned();
                Err(MountError::Session { path, message })
            }
            Err(source) => Err(MountError::Io { action: "find the mount on", path, source }),
        }
    }

    fn broken(&self, error: &io::Error) -> MountError {
        MountError::Session { path: self.path.clone(), message: error.to_string() }
    }

    fn guard(&self, wanted: bool) -> Option<Guard> {
        let path = self.path.display();
        let warn = |error: &io::Error| log::warn!("nothing unmounts {path} if we die: {error}");
        wanted.then(|| Guard::watch(&self.path, &self.row).inspect_err(warn).ok()).flatten()
    }

    /// Raises the kernel's bound on read-ahead, which FUSE itself can only lower.
    fn read_ahead(&self, bytes: u32) {
        let knob = format!("/sys/class/bdi/{}/read_ahead_kb", self.row.device);
        if let Err(error) = std::fs::write(&knob, (bytes / 1024).to_string()) {
            log::debug!("read-ahead stays at the kernel's default: {knob}: {error}");
        }
    }

    /// Unmounts, unless that is done already.
    fn take_off(&self, in_use: InUse) -> Result<(), MountError> {
        if self.gone.load(Ordering::Acquire) {
            return Ok(());
        }
        let rows = table::read().map_err(|source| {
            let path = self.path.clone();
            MountError::Io { action: "unmount", path, source }
        })?;
        let Some(row) = rows.iter().find(|row| row.resembles(&self.row)) else { return Ok(()) };
        if rows.iter().rfind(|other| other.path == row.path) != Some(row) {
            // Something else is mounted over it by now.
            return Err(MountError::Busy { path: row.path.clone() });
        }
        let is_this = match (self.unique_id, table::unique_id(&row.path)) {
            (Some(own), Some(seen)) => own == seen,
            _ => row.path == self.path,
        };
        if is_this { detach(&row.path, in_use) } else { Ok(()) }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Err(error) = self.take_off(InUse::Linger) {
            log::error!("{error}");
        }
    }
}

/// The task that passes changes on; dropping it ends the task.
#[derive(Debug)]
struct Relay(AbortHandle);

impl Drop for Relay {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the mount, its session's thread and whoever waits share.
#[derive(Debug)]
struct State {
    /// What accompanies the session and ends with it.
    companions: Mutex<Option<(Relay, Option<Guard>)>>,
    attached: Attached,
    /// How the session ended, once it has.
    ended: Mutex<Option<Result<(), String>>>,
    bell: Condvar,
}

impl State {
    /// Runs when the kernel, or an error, has ended the session.
    fn end(&self, result: io::Result<()>) {
        drop(self.companions.lock().take());
        // A session that ended by itself, by an error or by an abort in the kernel,
        // leaves a dead mount.
        if let Err(error) = self.attached.take_off(InUse::Linger) {
            log::error!("{error}");
        }
        self.attached.gone.store(true, Ordering::Release);
        let path = self.attached.path.display();
        match &result {
            Ok(()) => log::info!("{path} is unmounted"),
            Err(error) => log::error!("the FUSE session of {path} ended: {error}"),
        }
        *self.ended.lock() = Some(result.map_err(|error| error.to_string()));
        self.bell.notify_all();
    }

    fn has_ended(&self) -> bool {
        self.ended.lock().is_some()
    }

    fn wait(&self) -> Result<(), MountError> {
        let mut ended = self.ended.lock();
        loop {
            match &*ended {
                Some(Ok(())) => return Ok(()),
                Some(Err(message)) => {
                    let (path, message) = (self.attached.path.clone(), message.clone());
                    return Err(MountError::Session { path, message });
                }
                None => self.bell.wait(&mut ended),
            }
        }
    }
}

/// A mounted file system. Dropping it unmounts: at once if nothing is in use, else its
/// name disappears at once and the mount ends when the last file is closed.
///
/// All methods block and need the runtime to make progress meanwhile, so none may be
/// called from one of its workers.
#[derive(Debug)]
pub struct Mount {
    state: Arc<State>,
}

impl Mount {
    /// The mount point, absolute and without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.state.attached.path
    }

    /// Whether the mount is over.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.state.has_ended()
    }

    /// Waits until the mount is over, whoever unmounts it.
    ///
    /// # Errors
    /// [`MountError::Session`] if it ended by a failure.
    pub fn wait(&self) -> Result<(), MountError> {
        self.state.wait()
    }

    /// Unmounts and waits until the last request is answered.
    ///
    /// # Errors
    /// [`MountError::Busy`] if anything is in use, and the mount stays.
    pub fn unmount(&self) -> Result<(), MountError> {
        if self.has_ended() {
            return Ok(());
        }
        self.state.attached.take_off(InUse::Refuse)?;
        self.wait()
    }

    /// Takes the mount out of the tree now; files that are open stay usable, and
    /// [`wait`](Self::wait) returns when the last is closed.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn detach(&self) -> Result<(), MountError> {
        if self.has_ended() {
            return Ok(());
        }
        self.state.attached.take_off(InUse::Linger)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = match self.unmount() {
            Err(MountError::Busy { .. }) => self.detach(),
            other => other,
        };
        if let Err(error) = unmounted {
            log::error!("{error}");
        }
    }
}

//! A mounted model for one test.

use crate::probe::Probe;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tgcryptfs_fuse::{Mount, MountError, Options};
use tokio::runtime::{Builder, Runtime};
use vfs::Timestamp;
use vfs::model::{ModelFs, ModelOptions};

/// Long enough for anything that is not broken.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Dropped in this order: the mount first, its directory and runtime after it.
pub(crate) struct Mounted {
    pub(crate) mount: Mount,
    pub(crate) probe: Arc<Probe>,
    pub(crate) model: ModelFs,
    root: PathBuf,
    _dir: TempDir,
    _runtime: Runtime,
}

#[expect(clippy::disallowed_methods, reason = "the tests compare with the kernel's time")]
fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp { seconds: now.as_secs() as i64, nanoseconds: now.subsec_nanos() }
}

pub(crate) fn model() -> ModelFs {
    // Everybody may write to the root, so that tests can act as any user.
    let options = ModelOptions { root_mode: 0o1777, ..ModelOptions::default() };
    ModelFs::with_options(Arc::new(now), options)
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

/// What keeps every test here from running is said once, plainly.
pub(crate) fn expect_mounted(mounted: Result<Mount, MountError>) -> Mount {
    mounted.unwrap_or_else(|error| panic!("these tests need a working FUSE: {error}"))
}

impl Mounted {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// Mounts with changed options.
    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
        let (dir, runtime, model) = (tempfile::tempdir().unwrap(), runtime(), model());
        let probe = Arc::new(Probe::new(model.clone()));
        let mut options = Options::new(dir.path());
        options.allow_other = is_root();
        change(&mut options);
        let handle = runtime.handle().clone();
        let mount = expect_mounted(tgcryptfs_fuse::mount(Arc::clone(&probe), handle, options));
        let root = mount.path().to_owned();
        Self { mount, probe, model, root, _dir: dir, _runtime: runtime }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Unmounts what nothing uses. A child that another test forks holds our files for a
    /// moment, until it runs its program, so the first try may find the mount busy.
    pub(crate) fn unmount(&self) {
        wait_until("the mount to be free", || match self.mount.unmount() {
            Err(MountError::Busy { .. }) => false,
            other => other.map(|()| true).unwrap(),
        });
    }

    /// A path below the mount point.
    pub(crate) fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// Makes a file and leaves it open for reading and writing.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> File {
        use std::os::unix::fs::FileExt;
        let file = read_write().create_new(true).open(self.at(name)).unwrap();
        file.write_all_at(content, 0).unwrap();
        file
    }
}

pub(crate) fn read_write() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The error number of a failure.
pub(crate) fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

/// The same, of a rustix call.
pub(crate) fn errno_of<T: std::fmt::Debug>(result: rustix::io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error()
}

/// Runs a shell script with `$1`, `$2`... and gives what it printed; it must succeed.
pub(crate) fn sh(script: &str, args: &[&Path]) -> String {
    let output = Command::new("sh").args(["-c", script, "sh"]).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(output.status.success(), "{script}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Waits until `condition` holds.
#[expect(clippy::disallowed_methods, reason = "the kernel's time is real")]
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let step = Duration::from_millis(5);
    for _ in 0..LONG.as_millis() / step.as_millis() {
        if condition() {
            return;
        }
        std::thread::sleep(step);
    }
    panic!("waited in vain: {what}");
}

//! An engine behind a kernel mount.

use crate::mount::client::Client;
use crate::mount::vault::World;
use fuse_adapter::{Mount, MountError, Options};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tgcryptfs::engine::{Engine, Silent};
use tgcryptfs::store::FileStore;
use tokio::runtime::{Builder, Runtime};
use vfs::Vfs;

/// Long enough for anything that is not broken.
const LONG: Duration = Duration::from_secs(20);

/// A vault in a directory, which may be mounted time and again.
pub(crate) struct Vault {
    world: World,
    point: TempDir,
    runtime: Runtime,
}

impl Vault {
    pub(crate) fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests act as several users, so they must be run as root"
        );
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        let point = tempfile::tempdir().unwrap();
        let store = FileStore::create(&point.path().join("store")).unwrap();
        let world = runtime.block_on(World::on(Arc::new(store)));
        Self { world, point, runtime }
    }

    /// Opens the engine and mounts it.
    pub(crate) fn mount(&self) -> Mounted<'_> {
        self.mount_with(|_| {})
    }

    /// Where the store is.
    pub(crate) fn store_path(&self) -> PathBuf {
        self.point.path().join("store")
    }

    /// What is seen of a mount after a crash now: of the files as they are on disk.
    pub(crate) fn after_a_crash<T>(&self, look: impl FnOnce(&Mounted<'_>) -> T) -> T {
        let engine = self.runtime.block_on(self.world.crash("a", "crashed"));
        let mounted = self.serve(engine, "crashed", |_| {});
        let seen = look(&mounted);
        // Not closed: the store must not hear of the same machine twice.
        mounted.unmount();
        seen
    }

    /// The same, with other options.
    pub(crate) fn mount_with(&self, change: impl FnOnce(&mut Options)) -> Mounted<'_> {
        let engine = self.runtime.block_on(self.world.open("a"));
        engine.start(self.runtime.handle().clone());
        self.serve(engine, "mnt", change)
    }

    fn serve(&self, engine: Engine, point: &str, change: impl FnOnce(&mut Options)) -> Mounted<'_> {
        let point = self.point.path().join(point);
        std::fs::create_dir_all(&point).unwrap();
        let mut options = Options::new(point);
        options.allow_other = true;
        change(&mut options);
        let handle = self.runtime.handle().clone();
        let mount = fuse_adapter::mount(Arc::new(engine.clone()), handle, options)
            .unwrap_or_else(|error| panic!("these tests need a working FUSE: {error}"));
        let root = mount.path().to_owned();
        Mounted { mount, engine, root, vault: self }
    }
}

/// A mounted vault.
pub(crate) struct Mounted<'a> {
    mount: Mount,
    pub(crate) engine: Engine,
    root: PathBuf,
    vault: &'a Vault,
}

impl Mounted<'_> {
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.root, self.engine.limits())
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path below the mount point.
    pub(crate) fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// Everything in the vault belongs together.
    pub(crate) fn check(&self) {
        let report = self.vault.runtime.block_on(self.engine.fsck(&Silent)).unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
    }

    /// Unmounts and closes the engine.
    pub(crate) fn end(self) {
        self.unmount();
        self.vault.runtime.block_on(self.engine.close()).unwrap();
    }

    /// Unmounts, once the last close has arrived.
    fn unmount(&self) {
        let step = Duration::from_millis(5);
        for _ in 0..LONG.as_millis() / step.as_millis() {
            match self.mount.unmount() {
                Err(MountError::Busy { .. }) => {}
                other => return other.unwrap(),
            }
            #[expect(clippy::disallowed_methods, reason = "the kernel's time is real")]
            std::thread::sleep(step);
        }
        panic!("the mount stays busy");
    }
}

/// Runs a shell script with `$1` and gives what it printed; it must succeed.
pub(crate) fn sh(script: &str, path: &Path) -> String {
    let output = Command::new("sh").args(["-c", script, "sh"]).arg(path).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(output.status.success(), "{script}: {}", text(&output.stderr));
    text(&output.stdout)
}

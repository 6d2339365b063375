//! A vault in memory and engines over it.

use bytes::Bytes;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use tgcryptfs::crypto::kdf::Argon2Params;
use tgcryptfs::engine::{Creation, Engine, Error, Settings, Silent, create_vault};
use tgcryptfs::env::Env;
use tgcryptfs::store::{BlobStore, MemoryStore, ObjectName};
use tgcryptfs::vault::{Credential, Passphrase};
use vfs::{
    At, Context, Cred, Dac, IfExists, Ino, Name, OpenFlags, SetAttr, Stability, Vfs, WriteAt,
};

/// A vault, and a place for the state of machines.
pub(crate) struct World {
    pub(crate) store: Arc<dyn BlobStore>,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) env: Env,
}

pub(crate) fn credential() -> Credential {
    Credential::Passphrase(Passphrase::new("correct horse").unwrap())
}

impl World {
    /// A new vault whose first machine is `a`.
    pub(crate) async fn new() -> Self {
        Self::on(Arc::new(MemoryStore::new())).await
    }

    pub(crate) async fn on(store: Arc<dyn BlobStore>) -> Self {
        let world = Self { store, dir: tempfile::tempdir().unwrap(), env: Env::real() };
        world.create("a").await.unwrap();
        world
    }

    /// Makes a vault, as the machine of this name.
    pub(crate) async fn create(&self, machine: &str) -> Result<(), Error> {
        let (store, env, state) = (&self.store, &self.env, self.settings(machine).state_dir);
        let kdf = Argon2Params::new(19 << 10, 2, 1).unwrap();
        let creation = Creation { block_size: 64 << 10, label: machine.into() };
        create_vault(store.clone(), &credential(), kdf, creation, &state, env).await.map(drop)
    }

    pub(crate) fn settings(&self, machine: &str) -> Settings {
        let settings = Settings::below(&self.dir.path().join(machine));
        std::fs::create_dir_all(&settings.state_dir).unwrap();
        std::fs::create_dir_all(&settings.cache_dir).unwrap();
        settings
    }

    /// Opens the vault as the machine of this name.
    pub(crate) async fn open(&self, machine: &str) -> Engine {
        self.try_open(machine).await.unwrap()
    }

    pub(crate) async fn try_open(&self, machine: &str) -> Result<Engine, Error> {
        let settings = self.settings(machine);
        let env = self.env.clone();
        Engine::open(self.store.clone(), &credential(), settings, env, &Silent).await
    }

    /// Opens the vault with other settings than usual.
    pub(crate) async fn open_with(
        &self,
        machine: &str,
        change: impl FnOnce(&mut Settings),
    ) -> Result<Engine, Error> {
        let mut settings = self.settings(machine);
        change(&mut settings);
        Engine::open(self.store.clone(), &credential(), settings, self.env.clone(), &Silent).await
    }

    /// Every name in the store.
    pub(crate) async fn names(&self) -> BTreeSet<ObjectName> {
        self.store.list("").await.unwrap().into_iter().map(|object| object.name).collect()
    }

    /// Keeps a machine's files as they are, to be put back.
    pub(crate) fn backup(&self, from: &str, to: &str) {
        copy_tree(&self.dir.path().join(from), &self.dir.path().join(to));
    }

    /// Opens what a crash of the machine would leave: its files as they are now.
    pub(crate) async fn crash(&self, from: &str, to: &str) -> Engine {
        copy_tree(&self.dir.path().join(from), &self.dir.path().join(to));
        self.open(to).await
    }
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A runtime as the program has one.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

static ROOT: LazyLock<Cred> = LazyLock::new(Cred::root);

/// Root, of whom the kernel has checked what it may do.
pub(crate) fn cx() -> Context<'static> {
    Context { cred: &ROOT, dac: Dac::Delegated, op: None }
}

pub(crate) fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

/// Bytes that neither compress nor repeat.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// Makes or replaces a file in the root directory.
pub(crate) async fn write(
    engine: &Engine,
    file: &str,
    data: Vec<u8>,
    wanted: Stability,
) -> vfs::Result<()> {
    let attr = SetAttr { mode: Some(0o644), ..SetAttr::default() };
    let flags = OpenFlags { truncate: true, ..OpenFlags::READ_WRITE };
    let made =
        engine.create(cx(), Ino::ROOT, name(file), &attr, IfExists::Reuse, Some(flags)).await?;
    let handle = made.handle.unwrap();
    let data = Bytes::from(data).into();
    engine.write(cx(), At::Open(&handle), WriteAt::Offset(0), data, wanted).await.map(drop)
}

/// Everything in a file of the root directory.
pub(crate) async fn read(engine: &Engine, file: &str) -> vfs::Result<Vec<u8>> {
    let attr = engine.lookup(cx(), Ino::ROOT, name(file)).await?.attr;
    let mut out = Vec::new();
    while (out.len() as u64) < attr.size {
        let part = engine.read(cx(), At::Ino(attr.ino), out.len() as u64, 1 << 20).await?;
        out.extend_from_slice(&part.data.into_contiguous());
    }
    Ok(out)
}

/// Removes a file of the root directory.
pub(crate) async fn remove(engine: &Engine, file: &str) -> vfs::Result<()> {
    engine.unlink(cx(), Ino::ROOT, name(file)).await.map(drop)
}

/// Writes over the beginning of a file of the root directory.
pub(crate) async fn overwrite(
    engine: &Engine,
    file: &str,
    data: &'static [u8],
    wanted: Stability,
) -> vfs::Result<()> {
    let ino = engine.lookup(cx(), Ino::ROOT, name(file)).await?.attr.ino;
    let data = Bytes::from_static(data).into();
    engine.write(cx(), At::Ino(ino), WriteAt::Offset(0), data, wanted).await.map(drop)
}

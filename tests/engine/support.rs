//! A vault in memory and engines over it.

use std::path::Path;
use std::sync::Arc;
use tgcryptfs::crypto::kdf::Argon2Params;
use tgcryptfs::engine::{Creation, Engine, Error, Settings, Silent, create_vault};
use tgcryptfs::env::Env;
use tgcryptfs::store::{BlobStore, MemoryStore};
use tgcryptfs::vault::{Credential, Passphrase};

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
        let (dir, env) = (tempfile::tempdir().unwrap(), Env::real());
        let state = dir.path().join("a/state");
        std::fs::create_dir_all(&state).unwrap();
        let kdf = Argon2Params::new(19 << 10, 2, 1).unwrap();
        let creation = Creation { block_size: 64 << 10, label: "a".into() };
        create_vault(store.clone(), &credential(), kdf, creation, &state, &env).await.unwrap();
        Self { store, dir, env }
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

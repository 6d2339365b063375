//! The one place where the command line meets the engine, the stores, the vault's
//! secrets and the kernel mount: everything else works with what is defined here.

use super::context::Context;
use super::exit::{Code, Failure, OrFail};
use super::lock::{StateLock, make_private_dir};
use super::password::Secret;
use super::pending::{fuse, store, vault};
use super::service::EngineService;
use crate::config::{AtimeChoice, Codec, Config, Durability, Paths};
use crate::engine::{self, Engine, Progress, Settings};
use crate::env::Env;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Runtime;
use vfs::Stability;
use zeroize::Zeroizing;

pub(super) use store::Create;

/// An opened store.
pub(super) type Store = Arc<dyn store::BlobStore>;

/// Gives a store URL its one canonical spelling.
pub(super) fn parse_store_url(text: &str) -> Result<String> {
    let url: store::StoreUrl =
        text.parse().or_fail(Code::Configuration, "correct the URL of the store")?;
    Ok(url.to_string())
}

/// Opens the configured store.
pub(super) fn open_store(context: &Context, create: Create) -> Result<Store> {
    let url = context.store_url()?;
    let parsed: store::StoreUrl =
        url.parse().or_fail(Code::Configuration, "correct the URL of the store")?;
    let message = format!("make the store {url} reachable");
    Ok(store::open(&parsed, create).or_fail(Code::StoreUnreachable, message)?)
}

/// Reads a password file whose permissions were checked.
pub(super) fn read_password_file(path: &Path) -> Result<Zeroizing<String>> {
    let message = format!("make the password file {} readable", path.display());
    Ok(vault::password::read_file(path).or_fail(Code::SecretUnreadable, message)?)
}

/// Makes the engine's kind of credential from a secret.
pub(super) fn credential(secret: &Secret) -> Result<vault::Credential> {
    Ok(match secret {
        Secret::Passphrase(text) => vault::Credential::Passphrase(text.clone()),
        Secret::KeyFile(bytes) => vault::Credential::KeyFile(bytes.clone()),
        Secret::RecoveryCode(text) => {
            let advice = "check the recovery code: nine groups of four letters and digits";
            let code = vault::RecoveryCode::parse(text).or_fail(Code::WrongSecret, advice)?;
            vault::Credential::Recovery(code)
        }
    })
}

/// How new key slots are made.
pub(super) fn kdf(config: &Config) -> vault::KdfParams {
    let encryption = &config.encryption;
    vault::KdfParams {
        m_kib: encryption.argon2_memory_kib,
        t: encryption.argon2_iterations,
        p: encryption.argon2_parallelism,
    }
}

/// A new vault, as far as the user is told about it.
pub(super) struct NewVault {
    pub(super) vault_id: String,
    pub(super) recovery_code: Zeroizing<String>,
}

/// Makes a vault in a store that has none.
pub(super) fn create_vault(context: &Context, store: &Store, secret: &Secret) -> Result<NewVault> {
    let config = &context.loaded.config;
    let creation = engine::Creation { block_size: config.chunk.block_size, label: machine_label() };
    let credential = credential(secret)?;
    let (info, code) = runtime()?
        .block_on(engine::create_vault(
            Arc::clone(store),
            &credential,
            kdf(config),
            creation,
            &context.env,
        ))
        .map_err(engine_failure)?;
    Ok(NewVault { vault_id: hex(&info.vault_id), recovery_code: Zeroizing::new(code.to_string()) })
}

/// What other machines call this one.
fn machine_label() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "unnamed".to_owned(),
        name => name.to_owned(),
    }
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A runtime for the engine's futures.
pub(super) fn runtime() -> Result<Runtime> {
    let built =
        tokio::runtime::Builder::new_multi_thread().thread_name("tgcryptfs").enable_time().build();
    Ok(built.or_fail(Code::Other, "raise the limits of this process: cannot start threads")?)
}

/// A vault that is open in this process.
pub(super) struct Session {
    pub(super) service: Arc<EngineService>,
    pub(super) paths: Paths,
    runtime: Runtime,
    _lock: StateLock,
}

impl Session {
    /// Opens the configured vault. Fails with [`Code::Busy`] if another process of this
    /// machine has it open.
    pub(super) fn open(
        context: &Context,
        secret: &Secret,
        is_read_only: bool,
        progress: &dyn Progress,
    ) -> Result<Self> {
        context.check_supported()?;
        let paths = context.paths()?;
        let lock = StateLock::take(&paths.state)?;
        let store = open_store(context, Create::No)?;
        let settings = settings(context, &paths, is_read_only)?;
        let credential = credential(secret)?;
        let runtime = runtime()?;
        let opened = Engine::open(store, &credential, settings, context.env.clone(), progress);
        let engine = runtime.block_on(opened).map_err(engine_failure)?;
        let service = Arc::new(EngineService { engine, runtime: runtime.handle().clone() });
        Ok(Self { service, paths, runtime, _lock: lock })
    }

    /// Starts the work in the background.
    pub(super) fn start(&self) {
        self.service.engine.start();
    }

    /// Writes everything down and ends the work in the background. The vault stays
    /// locked until the session is dropped.
    pub(super) fn close(&self) -> Result<()> {
        Ok(self.runtime.block_on(self.service.engine.close()).map_err(engine_failure)?)
    }

    /// Mounts through FUSE.
    pub(super) fn mount_fuse(
        &self,
        context: &Context,
        mount_point: &Path,
        is_read_only: bool,
    ) -> Result<Arc<Mounted>> {
        let config = &context.loaded.config.mount;
        let options = fuse::Options {
            allow_other: config.allow_other,
            read_only: is_read_only,
            threads: config.threads,
            writeback_cache: config.writeback_cache,
            source: "tgcryptfs".to_owned(),
        };
        let mount = fuse::mount(self.service.engine.clone(), mount_point, &options)
            .or_fail(Code::MountPoint, format!("cannot mount at {}", mount_point.display()))?;
        Ok(Arc::new(Mounted(mount)))
    }
}

/// A kernel mount served by this process.
pub(super) struct Mounted(fuse::Mount);

impl Mounted {
    /// Waits until it is unmounted, by whomever.
    pub(super) fn wait(&self) -> std::io::Result<()> {
        self.0.wait()
    }

    /// Unmounts; fails while files are open.
    pub(super) fn unmount(&self) -> std::io::Result<()> {
        self.0.unmount()
    }
}

fn settings(context: &Context, paths: &Paths, is_read_only: bool) -> Result<Settings> {
    let config = &context.loaded.config;
    let is_telegram = config.store.as_deref().is_some_and(|url| url.starts_with("telegram:"));
    let (uploads, downloads) = if is_telegram {
        (config.telegram.max_concurrent_uploads, config.telegram.max_concurrent_downloads)
    } else {
        (config.transfer.concurrent_uploads_max, config.transfer.concurrent_downloads_max)
    };
    Ok(Settings {
        state_dir: paths.state.clone(),
        cache_dir: cache_dir(paths, &context.env)?,
        cache_size_max: config.cache.max_size,
        memory_max: config.cache.memory_max,
        pack_size_max: config.chunk.chunk_size,
        compression: compression(config),
        dedup: config.chunk.dedup_enabled,
        durability: match config.durability {
            Durability::Journaled => Stability::Journaled,
            Durability::Uploaded => Stability::Uploaded,
        },
        atime: match config.mount.atime {
            AtimeChoice::Relatime => engine::AtimePolicy::Relatime,
            AtimeChoice::Noatime => engine::AtimePolicy::Noatime,
        },
        quota_bytes: config.quota_bytes,
        prefetch_count: if config.cache.prefetch_enabled { config.cache.prefetch_count } else { 0 },
        read_only: is_read_only,
        concurrent_uploads_max: uploads,
        concurrent_downloads_max: downloads,
        dirty_max: config.cache.dirty_max,
    })
}

fn compression(config: &Config) -> engine::Compression {
    match (config.chunk.compression_enabled, config.chunk.compression) {
        (false, _) | (true, Codec::None) => engine::Compression::None,
        (true, Codec::Lz4) => engine::Compression::Lz4,
        (true, Codec::Zstd) => engine::Compression::Zstd(config.chunk.zstd_level),
    }
}

/// The cache directory of the vault, made if need be.
///
/// In a configured place, which several home directories may share, its name has this
/// machine's mark: a random word that is kept with the state and moves with it.
pub(super) fn cache_dir(paths: &Paths, env: &Env) -> Result<PathBuf> {
    let name = match paths.is_cache_shared {
        false => paths.vault_name.clone(),
        true => format!("{}-{}", paths.vault_name, machine_mark(&paths.state, env)?),
    };
    let dir = paths.cache_root.join(name);
    make_private_dir(&dir)?;
    Ok(dir)
}

fn machine_mark(state: &Path, env: &Env) -> Result<String> {
    let path = state.join("cache-mark");
    let message = || format!("make it possible to write {}", path.display());
    match std::fs::read_to_string(&path) {
        Ok(mark) if mark.len() == 16 && mark.bytes().all(|b| b.is_ascii_hexdigit()) => Ok(mark),
        Ok(_) => {
            let message = format!("restore {}, which names the cache directory", path.display());
            Err(Failure::because(Code::LocalState, message, "it is damaged").into())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mark = hex(&env.random_array::<8>());
            let temporary = state.join("cache-mark.new");
            std::fs::write(&temporary, &mark)
                .and_then(|()| std::fs::rename(&temporary, &path))
                .or_fail(Code::LocalState, message())?;
            Ok(mark)
        }
        Err(error) => Err(Failure::because(Code::LocalState, message(), error).into()),
    }
}

/// Gives an engine's error its exit code and first line.
///
/// MERGE: map the engine's kinds: wrong credential → `WrongSecret`, other vault or
/// rollback → `VaultMismatch`, store → `StoreUnreachable`, damage → `Corrupt`, local
/// disk → `LocalState`, locked → `Busy`, no vault → `NotFound`.
pub(super) fn engine_failure(error: engine::Error) -> Failure {
    match error {
        error @ engine::Error::NotBuilt => {
            Failure::because(Code::Other, "use a build with the engine in it", error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(dir: &Path, is_cache_shared: bool) -> Paths {
        let state = dir.join("state");
        std::fs::create_dir_all(&state).unwrap();
        Paths {
            state_root: dir.to_owned(),
            state,
            cache_root: dir.join("cache"),
            is_cache_shared,
            vault_name: "0123".to_owned(),
        }
    }

    #[test]
    fn a_shared_cache_directory_is_marked_for_good() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let env = Env::real();
        let plain = cache_dir(&paths(a.path(), false), &env).unwrap();
        assert_eq!(plain, a.path().join("cache/0123"));
        let marked = cache_dir(&paths(a.path(), true), &env).unwrap();
        assert_eq!(cache_dir(&paths(a.path(), true), &env).unwrap(), marked);
        let other = cache_dir(&paths(b.path(), true), &env).unwrap();
        assert_ne!(marked.file_name(), other.file_name());
    }

    #[test]
    fn a_damaged_mark_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path(), true);
        std::fs::write(paths.state.join("cache-mark"), "../../etc").unwrap();
        assert!(cache_dir(&paths, &Env::real()).is_err());
    }
}

//! The one place where the command line meets the engine, the stores, the vault's
//! secrets and the kernel mount: everything else works with what is defined here.

mod serving;

pub(super) use serving::{SecretPath, ServedNfs, Squash, Terms};

use super::context::Context;
use super::exit::{Code, Failure, OrFail};
use super::host::{Front, Offered};
use super::lock::{StateLock, make_private_dir};
use super::mount_table::busy_advice;
use super::service::EngineService;
use super::vault_ops::vault_failure;
use crate::config::{AtimeChoice, Codec, Config, Durability, Paths};
use crate::crypto::kdf::Argon2Params;
use crate::data::Error as DataError;
use crate::engine::{self, Engine, Progress, Settings};
use crate::env::Env;
use crate::store::{self, ErrorKind};
use crate::vault::Credential;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Runtime;
use vfs::Stability;
use zeroize::Zeroizing;

pub(super) use crate::store::Create;

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
    Ok(store::open(&parsed, create).map_err(|error| store_failure(&url, error))?)
}

/// Gives a store's error its exit code and first line.
pub(super) fn store_failure(url: &str, error: store::Error) -> Failure {
    match error.kind() {
        ErrorKind::Invalid | ErrorKind::Unsupported => {
            Failure::because(Code::Configuration, "correct the URL of the store", error)
        }
        ErrorKind::Full => {
            let message =
                format!("make room in the store {url}; what is not there yet is kept here");
            Failure::because(Code::StoreUnreachable, message, error)
        }
        ErrorKind::NotFound if error.name().is_some() => {
            let message = format!("restore the store {url} from a copy: it lacks something");
            Failure::because(Code::Corrupt, message, error)
        }
        _ => {
            let message = format!("make the store {url} reachable");
            Failure::because(Code::StoreUnreachable, message, error)
        }
    }
}

/// How much work goes into new passphrases.
pub(super) fn argon2(config: &Config) -> Result<Argon2Params> {
    let encryption = &config.encryption;
    let (memory, passes, lanes) =
        (encryption.argon2_memory_kib, encryption.argon2_iterations, encryption.argon2_parallelism);
    Ok(Argon2Params::new(memory, passes, lanes)
        .or_fail(Code::Configuration, "correct encryption.argon2_* in the configuration")?)
}

/// A new vault, as far as the user is told about it.
pub(super) struct NewVault {
    pub(super) vault_id: String,
    pub(super) recovery_code: Zeroizing<String>,
}

/// Makes a vault in a store that has none.
pub(super) fn create_vault(
    context: &Context,
    store: &Store,
    credential: &Credential,
) -> Result<NewVault> {
    let config = &context.loaded.config;
    let creation = engine::Creation { block_size: config.chunk.block_size, label: machine_label() };
    let paths = context.paths()?;
    let _lock = StateLock::take(&paths.state)?;
    let (info, code) = runtime()?
        .block_on(engine::create_vault(
            Arc::clone(store),
            credential,
            argon2(config)?,
            creation,
            &paths.state,
            &context.env,
        ))
        .map_err(engine_failure)?;
    Ok(NewVault { vault_id: hex(&info.vault_id.0), recovery_code: code.to_text() })
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
        credential: &Credential,
        is_read_only: bool,
        progress: &dyn Progress,
    ) -> Result<Self> {
        context.check_supported()?;
        let paths = context.paths()?;
        let lock = StateLock::take(&paths.state)?;
        let (store, url) = (open_store(context, Create::No)?, context.store_url()?);
        let settings = settings(context, &paths, is_read_only)?;
        let runtime = runtime()?;
        let opened = Engine::open(store, credential, settings, context.env.clone(), progress);
        let engine =
            runtime.block_on(opened).map_err(|error| engine_failure(error).in_store(&url))?;
        let service = Arc::new(EngineService { engine, runtime: runtime.handle().clone() });
        Ok(Self { service, paths, runtime, _lock: lock })
    }

    /// Starts the work in the background.
    pub(super) fn start(&self) {
        self.service.engine.start(self.runtime.handle().clone());
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
        mount_point: PathBuf,
        is_read_only: bool,
    ) -> Result<Offered> {
        let config = &context.loaded.config.mount;
        let mut options = fuse_adapter::Options::new(&mount_point);
        options.allow_other = config.allow_other;
        options.read_only = is_read_only;
        options.threads = usize::try_from(config.threads).ok();
        options.writeback_cache = config.writeback_cache;
        options.fsync = durability(&context.loaded.config);
        let fs = Arc::new(self.service.engine.patient());
        let mount = fuse_adapter::mount(fs, self.runtime.handle().clone(), options)
            .or_fail(Code::MountPoint, format!("cannot mount at {}", mount_point.display()))?;
        Ok(Offered {
            front: Arc::new(FuseMount { mount, mount_point: mount_point.clone() }),
            title: format!("mounted at {}", mount_point.display()),
            mount_point: Some(mount_point),
            address: None,
            via: "fuse",
            announcement: Vec::new(),
        })
    }
}

/// What `fsync` waits for.
fn durability(config: &Config) -> Stability {
    match config.durability {
        Durability::Journaled => Stability::Journaled,
        Durability::Uploaded => Stability::Uploaded,
    }
}

/// A kernel mount served by this process.
struct FuseMount {
    mount: fuse_adapter::Mount,
    mount_point: PathBuf,
}

impl Front for FuseMount {
    fn wait(&self) {
        if let Err(error) = self.mount.wait() {
            log::error!("the mount ended: {error}");
        }
    }

    fn end(&self) -> Result<(), Failure> {
        self.mount.unmount().or_fail(Code::MountPoint, busy_advice(&self.mount_point))
    }

    fn cut(&self) -> Result<(), Failure> {
        self.mount.detach().or_fail(Code::MountPoint, busy_advice(&self.mount_point))
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
        durability: durability(config),
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
        label: machine_label(),
        ..Settings::below(&paths.state)
    })
}

fn compression(config: &Config) -> engine::Compression {
    match (config.chunk.compression_enabled, config.chunk.compression) {
        (false, _) | (true, Codec::None) => engine::Compression::None,
        (true, Codec::Lz4) => engine::Compression::Lz4,
        (true, Codec::Zstd) => engine::Compression::Zstd { level: config.chunk.zstd_level },
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
            engine::identity::write_durably(&path, mark.as_bytes())
                .or_fail(Code::LocalState, message())?;
            Ok(mark)
        }
        Err(error) => Err(Failure::because(Code::LocalState, message(), error).into()),
    }
}

/// Gives an engine's error its exit code and first line.
pub(super) fn engine_failure(error: engine::Error) -> Failure {
    use engine::Error;
    let (code, message) = match error {
        Error::Vault(error) => return vault_failure(error),
        Error::Store(error) | Error::Data(DataError::Store(error)) => {
            let at = error.location().unwrap_or_default().to_owned();
            return store_failure(&at, error);
        }
        Error::NoVault { .. } => {
            (Code::NotFound, "make a vault with tgcryptfs init, or correct the store")
        }
        Error::VaultGone { .. } => (Code::NotFound, "bring back the store that holds the vault"),
        Error::VaultExists { .. } => (Code::Usage, "attach to the vault that is there already"),
        Error::Raced { .. } => (Code::Busy, "try again: another machine was at work"),
        Error::Db(ref db) | Error::Data(DataError::Db(ref db)) if db.is_damaged() => {
            (Code::LocalState, "run tgcryptfs fsck --rebuild: the local database is damaged")
        }
        Error::NoState => {
            (Code::LocalState, "run tgcryptfs fsck --rebuild: the local database is incomplete")
        }
        ref full if full.kind() == vfs::ErrorKind::NoSpace => {
            (Code::LocalState, "free some space where the local state and the cache are")
        }
        Error::Local { .. } | Error::Db(_) | Error::Identity { .. } | Error::Anchors { .. } => {
            (Code::LocalState, "make the local state and cache directories usable")
        }
        Error::Diverged | Error::OtherWriter { .. } => {
            (Code::LocalState, "say which is to go on: the local state, or what the store shows")
        }
        Error::Rollback { .. } | Error::MembershipRollback { .. } => {
            (Code::VaultMismatch, "find out why the store shows an older state than before")
        }
        Error::Unmerged { ref source, .. } if !source.is_corruption() => {
            (Code::StoreUnreachable, "try again when the store can be reached")
        }
        Error::Unmerged { .. } => {
            (Code::Corrupt, "see with tgcryptfs fsck what the store has lost of that file")
        }
        Error::Data(ref data) if !data.is_corruption() => {
            (Code::LocalState, "make the cache directory usable")
        }
        Error::Data(_)
        | Error::Fold(_)
        | Error::Membership(_)
        | Error::MembershipObject { .. }
        | Error::Object { .. }
        | Error::Decode(_)
        | Error::Unauthorised { .. }
        | Error::Fork { .. }
        | Error::Withheld { .. }
        | Error::NoCheckpoint { .. }
        | Error::BrokenCheckpoint { .. } => (
            Code::Corrupt,
            "restore the store from a copy: it holds something that was not written so",
        ),
        Error::NoKey { .. } | Error::TooLong(_) | Error::CheckpointTooLarge { .. } => {
            (Code::Other, "the operation cannot be done")
        }
    };
    Failure::because(code, message, error)
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

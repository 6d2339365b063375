//! Where things are on this machine.
//!
//! Invariant: with the default configuration everything lies below the home
//! directory, so two home directories are two machines. The XDG variables are
//! therefore honoured only where they point below it: a variable inherited from
//! another user's session must not make two machines share one state.

use super::{Config, Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the paths follow from, as the command line found it.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The home directory, if it is known.
    pub home: Option<PathBuf>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
}

impl Surroundings {
    /// A directory by the XDG rules, below the home directory.
    fn xdg(&self, variable: &str, default: &str) -> Result<PathBuf> {
        let home = self.home.as_ref().ok_or(Error::NoHome)?;
        let given = self.environment.get(variable).map(PathBuf::from);
        Ok(given.filter(|path| path.starts_with(home)).unwrap_or_else(|| home.join(default)))
    }

    /// Replaces a leading `~/` by the home directory.
    #[must_use]
    pub fn expand(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), &self.home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => path.to_owned(),
        }
    }

    /// The configuration file that is there: JSON before YAML.
    #[must_use]
    pub fn find_config(&self) -> Option<PathBuf> {
        let dir = self.xdg("XDG_CONFIG_HOME", ".config").ok()?.join("tgcryptfs");
        ["config.json", "config.yaml", "config.yml"]
            .iter()
            .map(|name| dir.join(name))
            .find(|path| path.exists())
    }

    /// The configuration file to make when there is none.
    pub fn new_config(&self) -> Result<PathBuf> {
        Ok(self.xdg("XDG_CONFIG_HOME", ".config")?.join("tgcryptfs/config.json"))
    }
}

/// The directories of one vault on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Directory with the state of every vault this machine knows.
    pub state_root: PathBuf,
    /// State of this vault; the database is in it.
    pub state: PathBuf,
    /// Directory the cache of this vault lies in.
    pub cache_root: PathBuf,
    /// Whether the configuration says where the cache is. Such a place may be
    /// shared with other machines (other home directories), so the vault's
    /// directory in it also needs this machine's mark.
    pub is_cache_shared: bool,
    /// Name of the vault's directories, from its store.
    pub vault_name: String,
}

impl Paths {
    /// The directories for the vault in the store with this URL.
    pub fn new(around: &Surroundings, config: &Config, store_url: &str) -> Result<Self> {
        let vault_name = vault_name(store_url);
        let state_root = state_root(around, config)?;
        let (cache_root, is_cache_shared) = match (&config.cache.cache_dir, &config.data_dir) {
            (Some(dir), _) => (around.expand(dir), true),
            (None, Some(dir)) => (around.expand(dir).join("cache"), false),
            (None, None) => (around.xdg("XDG_CACHE_HOME", ".cache")?.join("tgcryptfs"), false),
        };
        let state = state_root.join(&vault_name);
        Ok(Self { state_root, state, cache_root, is_cache_shared, vault_name })
    }

    /// What the mount daemon writes its log to.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.state.join("log")
    }

    /// Directory of the control socket.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.state.join("run")
    }
}

/// Directory with the state of every vault of this machine.
pub(crate) fn state_root(around: &Surroundings, config: &Config) -> Result<PathBuf> {
    match &config.data_dir {
        Some(dir) => Ok(around.expand(dir).join("state")),
        None => Ok(around.xdg("XDG_STATE_HOME", ".local/state")?.join("tgcryptfs")),
    }
}

/// Names a vault's directories after its store, so that they are known before the
/// store is reached. Two vaults that follow each other in one store share the name;
/// the engine compares the vault id it finds in the state.
fn vault_name(store_url: &str) -> String {
    blake3::derive_key("tgcryptfs local directory of a store", store_url.as_bytes())[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

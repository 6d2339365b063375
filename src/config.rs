//! The configuration: one schema, read from JSON or YAML by the file's extension.
//!
//! Values come in four layers, each stronger than the one before: default, file,
//! environment, flag. Every value remembers where it came from, so
//! `config show` can say so.
//!
//! The environment variable of a key is `TGCRYPTFS_` and the key in capitals with
//! every dot as one underscore: `cache.max_size` is `TGCRYPTFS_CACHE_MAX_SIZE`.
//! The keys are a closed list, so that one underscore is enough: no two keys have
//! the same variable (a test checks it), and a variable that belongs to no key is
//! refused like an unknown key in a file.
//!
//! Invariants: a key that is not in [`KEYS`] is never ignored; a value outside its
//! range never becomes a [`Config`]; a file that holds a secret and that others can
//! read is refused before anything in it is used.
//!
//! This module reads the files it is told to read. It reads neither the
//! environment nor `$HOME`: the command line hands those in.

mod error;
mod file;
mod keys;
mod nearest;
mod paths;
mod size;
#[cfg(test)]
mod tests;
mod typed;
mod value;

pub use error::Error;
pub use file::{parse, refuse_shared_file, save_keys};
pub use keys::{Effect, KEYS, Key, Kind};
pub(crate) use paths::state_root;
pub use paths::{Paths, Surroundings};
pub use size::{format_size, parse_size};
pub use typed::{
    AtimeChoice, Cache, Chunk, Chunker, Codec, Config, ConflictResolution, Distributed,
    Distribution, DistributionMode, Durability, Encryption, MasterReplica, Mount, MountVia,
    Padding, ReplicaRole, Secret, Telegram, Transfer, Versioning,
};

use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Shorthand for a result of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// Prefix of every environment variable that sets a key.
pub const ENVIRONMENT_PREFIX: &str = "TGCRYPTFS_";

/// Variables with the prefix that are no configuration keys: where to find the
/// password and the configuration file.
const ENVIRONMENT_RESERVED: [&str; 2] = ["TGCRYPTFS_PASSWORD_FILE", "TGCRYPTFS_CONFIG"];

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable, by name.
    Environment(String),
    /// A flag of the command line, as typed.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// One value given on the command line.
#[derive(Clone, Debug)]
pub struct FlagValue {
    /// Dotted name of the key.
    pub key: String,
    /// The value as typed.
    pub value: String,
    /// The flag it came from, for messages.
    pub flag: String,
}

/// What the layers above the defaults are made of.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// The configuration file; `None` if there is none.
    pub file: Option<PathBuf>,
    /// The environment; variables without the prefix are skipped.
    pub environment: BTreeMap<String, String>,
    /// The command line.
    pub flags: Vec<FlagValue>,
}

/// One value with its origin.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The key.
    pub key: &'static Key,
    /// Its value; `Null` if it is not set and has no default.
    pub value: Value,
    /// Where the value came from.
    pub source: Source,
}

impl Setting {
    /// The value for people and scripts: secrets are masked.
    #[must_use]
    pub fn shown(&self) -> Value {
        match (&self.key.kind, &self.value) {
            (Kind::Secret, Value::String(_)) => Value::String("********".to_owned()),
            (_, value) => value.clone(),
        }
    }

    /// Why this value does nothing in this build; `None` if it works or is only
    /// the default.
    #[must_use]
    pub fn without_effect(&self) -> Option<&'static str> {
        let Effect::Later { feature, unless } = self.key.effect else { return None };
        let is_harmless = unless.is_some_and(|harmless| self.value.as_str() == Some(harmless));
        (self.source != Source::Default && !is_harmless).then_some(feature)
    }
}

/// A complete configuration and where each value came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The typed values.
    pub config: Config,
    /// Every key in the order of [`KEYS`].
    pub settings: Vec<Setting>,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
}

impl Loaded {
    /// Reads and merges the layers.
    pub fn load(layers: &Layers) -> Result<Self> {
        let mut merged = defaults()?;
        if let Some(path) = &layers.file {
            for (key, value) in file::read(path)? {
                merged.insert(key.name, (value, Source::File(path.clone())));
            }
        }
        add_environment(&mut merged, &layers.environment)?;
        for flag in &layers.flags {
            let key = keys::find(&flag.key)
                .ok_or_else(|| Error::unknown_key(&format!("flag {}", flag.flag), &flag.key))?;
            let value = key.parse_text(&flag.value)?;
            merged.insert(key.name, (value, Source::Flag(flag.flag.clone())));
        }
        Self::from_merged(&merged, layers.file.clone())
    }

    fn from_merged(merged: &Merged, file: Option<PathBuf>) -> Result<Self> {
        let settings: Vec<Setting> = KEYS
            .iter()
            .filter_map(|key| {
                let (value, source) = merged.get(key.name)?.clone();
                Some(Setting { key, value, source })
            })
            .collect();
        let config = Config::from_settings(&settings)?;
        config.check()?;
        Ok(Self { config, settings, file })
    }

    /// The setting of a key by its dotted name.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key.name == name)
    }

    /// Settings somebody gave that do nothing in this build.
    pub fn without_effect(&self) -> impl Iterator<Item = (&Setting, &'static str)> {
        self.settings.iter().filter_map(|s| Some((s, s.without_effect()?)))
    }

    /// Refuses a secret file named in the configuration that others can read.
    pub fn check_secret_files(&self, expand: impl Fn(&Path) -> PathBuf) -> Result<()> {
        match &self.config.telegram.session_file {
            Some(path) => refuse_shared_file(&expand(path), "the session file"),
            None => Ok(()),
        }
    }
}

type Merged = BTreeMap<&'static str, (Value, Source)>;

fn defaults() -> Result<Merged> {
    KEYS.iter().map(|key| Ok((key.name, (key.default_value()?, Source::Default)))).collect()
}

fn add_environment(merged: &mut Merged, environment: &BTreeMap<String, String>) -> Result<()> {
    for (name, text) in environment {
        if !name.starts_with(ENVIRONMENT_PREFIX) || ENVIRONMENT_RESERVED.contains(&name.as_str()) {
            continue;
        }
        let key = KEYS
            .iter()
            .find(|key| key.environment_name() == *name)
            .ok_or_else(|| Error::unknown_variable(name))?;
        merged.insert(key.name, (key.parse_text(text)?, Source::Environment(name.clone())));
    }
    Ok(())
}

//! What every command starts from: the merged configuration and the surroundings.

use super::Global;
use super::exit::{Code, Failure, OrFail};
use super::session::parse_store_url;
use crate::config::{DistributionMode, FlagValue, Layers, Loaded, Paths, Surroundings};
use crate::env::Env;
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The namespace this build knows.
const NAMESPACE: &str = "default";

/// Whether a configuration file that was named has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamedFile {
    /// Yes: a wrong path must not mean the defaults.
    MustExist,
    /// No: the command makes it.
    MayBeMade,
}

/// The merged configuration and the surroundings of one command.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) loaded: Loaded,
    pub(super) around: Surroundings,
    pub(super) env: Env,
    /// The file `init` writes to: the one that was read, or the one to make.
    config_file: Option<PathBuf>,
}

impl Context {
    /// Merges the layers; `flags` are those of the command itself.
    pub(super) fn load(
        global: &Global,
        mut flags: Vec<FlagValue>,
        named: NamedFile,
    ) -> Result<Self> {
        let around = surroundings();
        let config_file = match &global.config {
            Some(path) => Some(path.clone()),
            None => around
                .environment
                .get("TGCRYPTFS_CONFIG")
                .filter(|v| !v.is_empty())
                .map(PathBuf::from),
        };
        let file = match &config_file {
            Some(path) if named == NamedFile::MayBeMade && !path.exists() => None,
            Some(path) => Some(path.clone()),
            None => around.find_config(),
        };
        flags.extend(global_flags(global)?);
        let layers = Layers { file, environment: around.environment.clone(), flags };
        let loaded = Loaded::load(&layers)?;
        loaded.check_secret_files(|path| around.expand(path))?;
        Ok(Self { loaded, around, env: Env::real(), config_file })
    }

    /// URL of the configured store, in its one canonical spelling.
    pub(super) fn store_url(&self) -> Result<String> {
        let Some(url) = &self.loaded.config.store else {
            let message = "say where the store is: tgcryptfs init --store file:///path";
            return Err(Failure::because(Code::Configuration, message, "store: not set").into());
        };
        parse_store_url(url)
    }

    /// Local directories of the configured store.
    pub(super) fn paths(&self) -> Result<Paths> {
        Ok(Paths::new(&self.around, &self.loaded.config, &self.store_url()?)?)
    }

    /// Directory with the local state of every store.
    pub(super) fn state_root(&self) -> Result<PathBuf> {
        Ok(crate::config::state_root(&self.around, &self.loaded.config)?)
    }

    /// The configuration file to write to.
    pub(super) fn config_file(&self) -> Result<PathBuf> {
        match (&self.loaded.file, &self.config_file) {
            (Some(path), _) | (None, Some(path)) => Ok(path.clone()),
            (None, None) => Ok(self.around.new_config()?),
        }
    }

    /// Refuses settings that would open something else than was asked for, and warns
    /// of those that do nothing yet.
    pub(super) fn check_supported(&self) -> Result<()> {
        let config = &self.loaded.config;
        if config.namespace != NAMESPACE {
            let message = format!("leave namespace at {NAMESPACE:?}: this build knows no other");
            return Err(Failure::new(Code::Configuration, message).into());
        }
        if config.distribution.mode != DistributionMode::Standalone {
            log::warn!(
                "distribution.mode has no effect in this build: this machine works standalone"
            );
        }
        Ok(())
    }

    /// A variable of the environment.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.around.environment.get(name).map(String::as_str)
    }
}

/// The home directory and the environment of this process.
pub(super) fn surroundings() -> Surroundings {
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let home = environment.get("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    Surroundings { home, environment }
}

fn global_flags(global: &Global) -> Result<Vec<FlagValue>> {
    let mut flags = Vec::new();
    for text in &global.set {
        let (key, value) = text
            .split_once('=')
            .ok_or("no = in it")
            .or_fail(Code::Usage, format!("write --set KEY=VALUE instead of --set {text}"))?;
        let (key, value) = (key.trim().to_owned(), value.to_owned());
        flags.push(FlagValue { key, value, flag: "--set".to_owned() });
    }
    if let Some(name) = &global.namespace {
        let (key, value) = ("namespace".to_owned(), name.clone());
        flags.push(FlagValue { key, value, flag: "--namespace".to_owned() });
    }
    Ok(flags)
}

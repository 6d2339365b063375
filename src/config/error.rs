//! What can be wrong with a configuration.
//!
//! Every message names the key or the file and says what to change.

use super::{ENVIRONMENT_PREFIX, KEYS, keys, nearest};
use std::io;
use std::path::{Path, PathBuf};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the configuration file {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The extension names no known format.
    #[error("{}: name the file .json, .yaml or .yml so that its format is known", path.display())]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// The file is no valid JSON or YAML, or gives a key twice.
    #[error("{}: {detail}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's words, with line and column.
        detail: String,
    },
    /// A key that does not exist.
    #[error("{place}: {key}: unknown key{hint}")]
    UnknownKey {
        /// File and line, or the flag.
        place: String,
        /// The key as given.
        key: String,
        /// `; did you mean …?` or nothing.
        hint: String,
    },
    /// An environment variable with the prefix that sets no key.
    #[error("environment {name}: sets no configuration key{hint}")]
    UnknownVariable {
        /// The variable.
        name: String,
        /// `; did you mean …?` or nothing.
        hint: String,
    },
    /// A value of the wrong type or outside its range.
    #[error("{key}: {value} is not allowed; use {allowed}")]
    Value {
        /// The key.
        key: String,
        /// The value as given; masked for secrets.
        value: String,
        /// What is allowed, with unit.
        allowed: String,
    },
    /// Something that has to be given and was not.
    #[error("{key}: not set; {reason}")]
    Missing {
        /// The key.
        key: &'static str,
        /// Why it is needed.
        reason: &'static str,
    },
    /// A valid choice that this build cannot do.
    #[error("{key}: {value} is not available yet; use {instead}")]
    NotAvailable {
        /// The key.
        key: &'static str,
        /// The choice.
        value: &'static str,
        /// What works.
        instead: &'static str,
    },
    /// Two keys that contradict each other.
    #[error("{first}: {detail}; change it or {second}")]
    Conflict {
        /// One key.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// A file with a secret in it that other users can read.
    #[error(
        "run: chmod 600 {}; it holds {holds} and other users can read it (mode {mode:04o})",
        path.display()
    )]
    SharedSecret {
        /// The file.
        path: PathBuf,
        /// What it holds.
        holds: &'static str,
        /// Its permission bits.
        mode: u32,
    },
    /// There is no place for state.
    #[error("set HOME, or data_dir in the configuration: there is no place for local state")]
    NoHome,
    /// The typed form of the configuration does not match the table of keys.
    #[error("the table of keys and the configuration's types disagree: {detail}")]
    Schema {
        /// What the deserialiser said.
        detail: String,
    },
}

impl Error {
    pub(super) fn unknown_key(place: &str, key: &str) -> Self {
        let hint = nearest::key(key).map(|near| format!("; did you mean {near}?"));
        let hint = hint.unwrap_or_else(|| section_hint(key));
        Self::UnknownKey { place: place.to_owned(), key: key.to_owned(), hint }
    }

    pub(super) fn unknown_variable(name: &str) -> Self {
        let names = KEYS.iter().map(keys::Key::environment_name);
        let hint = nearest::of(name, names, ENVIRONMENT_PREFIX.len())
            .map_or_else(String::new, |near| format!("; did you mean {near}?"));
        Self::UnknownVariable { name: name.to_owned(), hint }
    }

    pub(super) fn syntax(path: &Path, detail: &impl ToString) -> Self {
        Self::Syntax { path: path.to_owned(), detail: detail.to_string() }
    }

    /// Whether the cause is a secret that others can read, which has its own exit code.
    #[must_use]
    pub fn is_shared_secret(&self) -> bool {
        matches!(self, Self::SharedSecret { .. })
    }
}

/// Lists the keys of a known section when no single key is close.
fn section_hint(key: &str) -> String {
    let section = key.rsplit_once('.').map_or("", |(section, _)| section);
    let prefix = format!("{section}.");
    let known: Vec<&str> = KEYS
        .iter()
        .filter_map(|k| k.name.strip_prefix(&prefix))
        .filter(|k| !section.is_empty() && !k.contains('.'))
        .collect();
    if known.is_empty() {
        "; config show lists every key".to_owned()
    } else {
        format!("; {section} has {}", known.join(", "))
    }
}

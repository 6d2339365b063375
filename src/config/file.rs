//! Reads and writes the configuration file.
//!
//! Invariant: the permission bits are taken from the open file, not from its name,
//! so the file that was checked is the file that was read.

use super::keys::{self, Key, Kind};
use super::value::Node;
use super::{Error, KEYS, Result};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A configuration is a page of text; more is a mistake in the path.
const FILE_SIZE_MAX: u64 = 1 << 20;

/// What the example configurations say in place of a secret.
const PLACEHOLDERS: [&str; 2] = ["your_api_hash", "YOUR_API_HASH"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Yaml,
}

/// Reads a file into checked values, in the order of the file.
pub(super) fn read(path: &Path) -> Result<Vec<(&'static Key, Value)>> {
    format_of(path)?;
    let (text, mode) = read_text(path)?;
    let values = parse(path, &text)?;
    if mode & 0o077 != 0 && values.iter().any(|(key, value)| is_secret(key, value)) {
        return Err(Error::SharedSecret {
            path: path.to_owned(),
            holds: "telegram.api_hash",
            mode,
        });
    }
    Ok(values)
}

/// Checks the text of a file, whose name says whether it is JSON or YAML; answers
/// its values in its order.
pub fn parse(path: &Path, text: &str) -> Result<Vec<(&'static Key, Value)>> {
    let format = format_of(path)?;
    let root: Node = match format {
        _ if text.trim().is_empty() => Node::Null,
        Format::Json => serde_json::from_str(text).map_err(|e| Error::syntax(path, &e))?,
        Format::Yaml => serde_yaml_ng::from_str(text).map_err(|e| Error::syntax(path, &e))?,
    };
    let mut values = Vec::new();
    match &root {
        Node::Null => {}
        Node::Map(entries) => {
            let place = Place { path, text, format };
            collect(entries, &mut Vec::new(), &place, &mut values)?;
        }
        _ => return Err(Error::syntax(path, &"expected sections and keys at the top level")),
    }
    Ok(values)
}

/// Refuses a file that others than its owner can read or write. A file that is not
/// there, or that is no regular file, passes.
pub fn refuse_shared_file(path: &Path, holds: &'static str) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(data) if data.is_file() && data.mode() & 0o077 != 0 => {
            Err(Error::SharedSecret { path: path.to_owned(), holds, mode: data.mode() & 0o7777 })
        }
        _ => Ok(()),
    }
}

/// Sets keys in a configuration file, keeps everything else in it and leaves it
/// readable by its owner only. Keys that already have their value are left alone.
///
/// The new file replaces the old one in one step, so a crash leaves either.
pub fn save_keys(path: &Path, entries: &[(&str, Value)]) -> Result<()> {
    let format = format_of(path)?;
    let old = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(Error::Read { path: path.to_owned(), source }),
    };
    let known = if old.is_empty() { Vec::new() } else { read(path)? };
    let is_known =
        |name: &str, value: &Value| known.iter().any(|(k, v)| k.name == name && v == value);
    let new: Vec<_> = entries.iter().filter(|(name, value)| !is_known(name, value)).collect();
    if new.is_empty() {
        return Ok(());
    }
    let text = match format {
        Format::Json => json_with(path, &old, &new)?,
        Format::Yaml => yaml_with(path, &old, &new)?,
    };
    replace_file(path, text.as_bytes())
        .map_err(|source| Error::Write { path: path.to_owned(), source })
}

fn json_with(path: &Path, old: &str, entries: &[&(&str, Value)]) -> Result<String> {
    let mut root = match old.trim() {
        "" => Value::Object(serde_json::Map::new()),
        text => serde_json::from_str(text).map_err(|e| Error::syntax(path, &e))?,
    };
    for (name, value) in entries {
        insert(&mut root, name, value.clone())
            .ok_or_else(|| Error::syntax(path, &format!("{name}: its section is no section")))?;
    }
    let text = serde_json::to_string_pretty(&root).map_err(|e| Error::syntax(path, &e))?;
    Ok(text + "\n")
}

/// Adds sections at the end, so that comments stay; what would have to be changed in
/// the middle is left to the user.
fn yaml_with(path: &Path, old: &str, entries: &[&(&str, Value)]) -> Result<String> {
    let mut added = Value::Object(serde_json::Map::new());
    for (name, value) in entries {
        let section = name.split('.').next().unwrap_or(name);
        let start = format!("{section}:");
        if old.lines().any(|line| line.starts_with(&start)) {
            let detail = format!("set {name} in it by hand: it has {section} already");
            return Err(Error::syntax(path, &detail));
        }
        // Every section is new, so nothing is in the way.
        let _ = insert(&mut added, name, value.clone());
    }
    let added = serde_yaml_ng::to_string(&added).map_err(|e| Error::syntax(path, &e))?;
    let gap = if old.is_empty() || old.ends_with('\n') { "" } else { "\n" };
    Ok(format!("{old}{gap}{added}"))
}

/// Puts a value under a dotted name, making the sections on the way.
pub(super) fn insert(root: &mut Value, name: &str, value: Value) -> Option<()> {
    let mut at = root;
    let mut parts = name.split('.').peekable();
    while let Some(part) = parts.next() {
        let section = at.as_object_mut()?;
        if parts.peek().is_none() {
            section.insert(part.to_owned(), value);
            return Some(());
        }
        at = section.entry(part).or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
    None
}

fn replace_file(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(contents)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    // A path without a directory is in the one we are in.
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    crate::env::sync_dir(&File::open(dir.unwrap_or(Path::new(".")))?)
}

fn format_of(path: &Path) -> Result<Format> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => Ok(Format::Json),
        Some("yaml" | "yml") => Ok(Format::Yaml),
        _ => Err(Error::Extension { path: path.to_owned() }),
    }
}

fn read_text(path: &Path) -> Result<(String, u32)> {
    let read = || -> io::Result<(String, u32)> {
        let file = File::open(path)?;
        let mode = file.metadata()?.mode() & 0o7777;
        let mut text = String::new();
        file.take(FILE_SIZE_MAX + 1).read_to_string(&mut text)?;
        if text.len() as u64 > FILE_SIZE_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
        }
        Ok((text, mode))
    };
    read().map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn is_secret(key: &Key, value: &Value) -> bool {
    key.kind == Kind::Secret && value.as_str().is_some_and(|text| !PLACEHOLDERS.contains(&text))
}

/// The file a key is looked for in when an error has to name its line.
struct Place<'a> {
    path: &'a Path,
    text: &'a str,
    format: Format,
}

fn collect(
    entries: &[(String, Node)],
    parents: &mut Vec<String>,
    place: &Place<'_>,
    values: &mut Vec<(&'static Key, Value)>,
) -> Result<()> {
    for (name, node) in entries {
        parents.push(name.clone());
        let full = parents.join(".");
        match (keys::find(&full), node) {
            // As if the key were not there.
            (Some(_), Node::Null) => {}
            (Some(key), node) => values.push((key, key.parse_node(node)?)),
            (None, Node::Map(inner)) if is_section(&full) => {
                collect(inner, parents, place, values)?;
            }
            // A section header with everything below it commented out.
            (None, Node::Null) if is_section(&full) => {}
            (None, _) if is_section(&full) => {
                let key = full;
                let allowed = "a section with keys below it".to_owned();
                return Err(Error::Value { key, value: "a plain value".to_owned(), allowed });
            }
            (None, _) => return Err(Error::unknown_key(&place.of(parents), &full)),
        }
        parents.pop();
    }
    Ok(())
}

fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

impl Place<'_> {
    /// `file:line` of a key. The parsers do not keep positions, so the line is found
    /// by looking for each name of the path below the one before it.
    fn of(&self, parents: &[String]) -> String {
        let lines: Vec<&str> = self.text.lines().collect();
        let line = parents.iter().try_fold(0, |from, name| {
            let found = lines[from..].iter().position(|line| self.is_key_line(line, name))?;
            Some(from + found)
        });
        match line {
            Some(index) => format!("{}:{}", self.path.display(), index + 1),
            None => self.path.display().to_string(),
        }
    }

    fn is_key_line(&self, line: &str, name: &str) -> bool {
        let quoted = format!("\"{name}\"");
        let has_quoted =
            line.split_once(&quoted).is_some_and(|(_, rest)| rest.trim_start().starts_with(':'));
        let has_plain = self.format == Format::Yaml
            && line.trim_start().strip_prefix(name).is_some_and(|rest| rest.starts_with(':'));
        has_quoted || has_plain
    }
}

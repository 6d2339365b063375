//! Which store: URLs, and opening what they name.
//!
//! A URL is parsed once; what was parsed is canonical and prints without
//! secrets. Messages about a URL name its scheme and never repeat the rest,
//! since that is where people put passwords.

use super::aside::Aside;
use super::{BlobStore, Error, ErrorKind, FileStore, MemoryStore, Result};
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// What this build can open, for messages.
const SUPPORTED: &str = "file:///path and memory:";

/// Stores that have a name already and that this build cannot open.
const KNOWN_SCHEMES: [&str; 14] = [
    "azblob", "azure", "b2", "dropbox", "gcs", "gdrive", "gs", "onedrive", "s3", "sftp",
    "telegram", "webdav", "webdavs", "webhdfs",
];

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StoreUrl {
    /// `file:///path`: a directory, by its absolute path.
    File(PathBuf),
    /// `memory:`: gone with the process.
    Memory,
}

/// Whether a store that is not there yet is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    /// Make it if need be: what `init` wants.
    Yes,
    /// It must be there: a mount must not mistake a disk that is not plugged in
    /// for an empty store.
    No,
}

/// Opens the store that `url` names.
///
/// Every opening of [`StoreUrl::Memory`] gives a new, empty store.
pub fn open(url: &StoreUrl, create: Create) -> Result<Arc<dyn BlobStore>> {
    match (url, create) {
        (StoreUrl::File(path), Create::Yes) => Ok(Arc::new(Aside::new(FileStore::create(path)?))),
        (StoreUrl::File(path), Create::No) => Ok(Arc::new(Aside::new(FileStore::open(path)?))),
        (StoreUrl::Memory, _) => Ok(Arc::new(MemoryStore::new())),
    }
}

impl FromStr for StoreUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with('/') {
            return Self::file(Path::new(text));
        }
        let Some((scheme, rest)) = text.split_once(':').filter(|(scheme, _)| is_scheme(scheme))
        else {
            return Err(invalid(
                "the store is not given as a URL; write its absolute path, as in file:///path",
            ));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "file" => Self::file(&decode_file_url(rest)?),
            "memory" if rest.is_empty() => Ok(Self::Memory),
            "memory" => Err(invalid("a store in memory has no address; write memory:")),
            known if KNOWN_SCHEMES.contains(&known) => Err(Error::new(ErrorKind::Unsupported)
                .detail(format!("{known}: stores are not in this build, which opens {SUPPORTED}"))),
            unknown => Err(invalid(format!(
                "there is no kind of store called {unknown:?}; this build opens {SUPPORTED}"
            ))),
        }
    }
}

impl StoreUrl {
    fn file(path: &Path) -> Result<Self> {
        if path.as_os_str().as_bytes().contains(&0) {
            return Err(invalid("a path cannot contain a zero byte"));
        }
        // Lexical, without following links: only `.` and doubled or trailing slashes go.
        let path: PathBuf = path.components().collect();
        if !path.components().any(|part| matches!(part, Component::Normal(_))) {
            return Err(invalid(
                "the root directory cannot be a store; give a directory of its own",
            ));
        }
        Ok(Self::File(path))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => {
                f.write_str("file://")?;
                encode(path, f)
            }
            Self::Memory => f.write_str("memory:"),
        }
    }
}

fn invalid(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid).detail(detail)
}

/// RFC 3986 §3.1; one letter alone is a drive on other systems, not a scheme.
fn is_scheme(text: &str) -> bool {
    (2..=32).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// `rest` is what follows `file:`.
fn decode_file_url(rest: &str) -> Result<PathBuf> {
    let Some(after) = rest.strip_prefix("//") else {
        return Err(invalid(
            "a file URL has three slashes and an absolute path, as in file:///path",
        ));
    };
    let path = after.strip_prefix("localhost").filter(|path| path.starts_with('/'));
    let path = path.unwrap_or(after);
    if !path.starts_with('/') {
        return Err(invalid(
            "a file URL names no other machine and no relative path; write file:///path",
        ));
    }
    if path.contains(['?', '#']) {
        return Err(invalid(
            "a file URL takes no options; if ? or # belongs to the path, write %3F or %23",
        ));
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut left = path.bytes();
    while let Some(byte) = left.next() {
        bytes.push(if byte == b'%' { decode_escape(&mut left)? } else { byte });
    }
    Ok(OsString::from_vec(bytes).into())
}

fn decode_escape(left: &mut impl Iterator<Item = u8>) -> Result<u8> {
    let mut digit = || char::from(left.next()?).to_digit(16);
    match (digit(), digit()) {
        (Some(high), Some(low)) => Ok((high << 4 | low) as u8),
        _ => Err(invalid(
            "a % in a file URL is followed by two hexadecimal digits; write %25 for the character itself",
        )),
    }
}

/// Escapes what would end the path, and what does not print.
fn encode(path: &Path, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || character.is_whitespace() || "%?#".contains(character) {
                let mut buffer = [0; 4];
                for byte in character.encode_utf8(&mut buffer).bytes() {
                    write!(f, "%{byte:02X}")?;
                }
            } else {
                write!(f, "{character}")?;
            }
        }
        for byte in chunk.invalid() {
            write!(f, "%{byte:02X}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Create, StoreUrl, open};
    use crate::store::suite::block_on;
    use crate::store::{ErrorKind, ObjectName, PutMode};
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;

    fn refusal(text: &str) -> (ErrorKind, String) {
        let error = text.parse::<StoreUrl>().unwrap_err();
        (error.kind(), error.to_string())
    }

    #[test]
    fn directories_have_one_spelling() {
        let expected = StoreUrl::File("/srv/my store".into());
        for text in [
            "file:///srv/my store",
            "file:///srv/my%20store",
            "FILE://localhost/srv/my%20store",
            "/srv/my store",
            "//srv/./my store/",
        ] {
            assert_eq!(text.parse::<StoreUrl>().unwrap(), expected, "{text}");
        }
        assert_eq!(expected.to_string(), "file:///srv/my%20store");
        assert_eq!("/a%20b".parse::<StoreUrl>().unwrap().to_string(), "file:///a%2520b");
    }

    #[test]
    fn memory_has_no_address() {
        assert_eq!("memory:".parse::<StoreUrl>().unwrap(), StoreUrl::Memory);
        assert_eq!(StoreUrl::Memory.to_string(), "memory:");
        assert_eq!(refusal("memory:x").0, ErrorKind::Invalid);
    }

    #[test]
    fn relative_paths_are_refused_with_a_hint() {
        for text in ["store", "./store", "../store", "~/store", "", "C:/store", "file:store"] {
            let (kind, message) = refusal(text);
            assert_eq!(kind, ErrorKind::Invalid, "{text}");
            assert!(message.contains("file:///path"), "{text}: {message}");
        }
        for text in ["file://host/store", "file://", "file:///", "/", "///", "/.", "file:///a%zz"] {
            assert_eq!(refusal(text).0, ErrorKind::Invalid, "{text}");
        }
        for text in ["file:///a?b", "file:///a#b", "file:///a%00b", "/a\0b", "file:///a%4"] {
            assert_eq!(refusal(text).0, ErrorKind::Invalid, "{text}");
        }
    }

    #[test]
    fn other_schemes_are_named_but_never_the_secret_in_them() {
        let (kind, message) = refusal("s3://key:secret@bucket/prefix");
        assert_eq!(kind, ErrorKind::Unsupported);
        assert!(message.contains("s3:") && message.contains("file:///path"), "{message}");
        assert!(!message.contains("secret") && !message.contains("key"), "{message}");
        assert_eq!(refusal("telegram:").0, ErrorKind::Unsupported);
        let (kind, message) = refusal("carrier-pigeon://user:secret@x");
        assert_eq!(kind, ErrorKind::Invalid);
        assert!(message.contains("carrier-pigeon") && message.contains("memory:"), "{message}");
        assert!(!message.contains("secret"), "{message}");
    }

    #[test]
    fn only_init_makes_a_store() {
        let dir = tempfile::tempdir().unwrap();
        let url = StoreUrl::File(dir.path().join("a/b"));
        let error = open(&url, Create::No).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(!dir.path().join("a").exists());

        let (name, body) = (ObjectName::vault(1), Bytes::from_static(b"x"));
        let store = open(&url, Create::Yes).unwrap();
        block_on(store.put(&name, body.clone(), PutMode::Overwrite)).unwrap();
        assert_eq!(store.location(), url.to_string());
        let again = open(&url, Create::No).unwrap();
        assert_eq!(block_on(again.get(&name, None)).unwrap(), body);
        let init_again = open(&url, Create::Yes).unwrap();
        assert_eq!(block_on(init_again.get(&name, None)).unwrap(), body);
    }

    proptest! {
        #[test]
        fn display_parses_back(bytes in proptest::collection::vec(1_u8.., 1..40)) {
            let mut path = b"/x".to_vec();
            path.extend(bytes);
            let url = StoreUrl::file(OsString::from_vec(path).as_ref()).unwrap();
            let text = url.to_string();
            prop_assert!(!text.contains(char::is_whitespace), "{}", text);
            prop_assert_eq!(text.parse::<StoreUrl>().unwrap(), url);
        }

        #[test]
        fn any_text_is_an_answer(text in "\\PC*") {
            drop(text.parse::<StoreUrl>());
        }
    }
}

//! Why a store could not do what was asked.
//!
//! The kind says what the caller can do about it; the rest says, for people,
//! what happened where. Neither ever holds a secret: locations are URLs without
//! credentials, names are opaque.

use super::ObjectName;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// What the caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No such object, or no such store.
    NotFound,
    /// The store is out of reach; try again later.
    Offline,
    /// The store wants fewer requests; try again after the given time.
    Throttled {
        /// How long the store wants to be left alone.
        retry_after_ms: u64,
    },
    /// The store refuses this user; trying again changes nothing.
    Denied,
    /// No space or quota left; deletions may still work.
    Full,
    /// The object is larger than the store takes, or than anybody should read.
    TooLarge,
    /// The medium or the protocol failed.
    Io,
    /// This store or this build cannot do that.
    Unsupported,
    /// A URL or setting makes no sense.
    Invalid,
}

impl ErrorKind {
    /// Whether the same call may work later without anybody doing anything.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Offline | Self::Throttled { .. })
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "not there",
            Self::Offline => "out of reach; check the connection, it is tried again",
            Self::Throttled { retry_after_ms } => {
                return write!(f, "the store asks for a pause of {retry_after_ms} ms");
            }
            Self::Denied => "access denied; check the permissions of the store",
            Self::Full => "no space left; free space or raise the quota of the store",
            Self::TooLarge => "too large for this store",
            Self::Io => "reading or writing failed; check the medium",
            Self::Unsupported => "not supported by this store",
            Self::Invalid => "not valid",
        })
    }
}

/// A store's error.
///
/// Boxed, since results are moved about far more often than they fail; cloned
/// cheaply, since one failed transfer may have many waiting for it.
#[derive(Clone)]
pub struct Error(Box<Parts>);

#[derive(Clone)]
struct Parts {
    kind: ErrorKind,
    location: Option<String>,
    name: Option<ObjectName>,
    detail: Option<String>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of this kind and nothing else known.
    #[must_use]
    pub fn new(kind: ErrorKind) -> Self {
        Self(Box::new(Parts { kind, location: None, name: None, detail: None, source: None }))
    }

    /// Adds where the store is: a URL without secrets.
    #[must_use]
    pub fn at(mut self, location: impl Into<String>) -> Self {
        self.0.location = Some(location.into());
        self
    }

    /// Adds which object it was about.
    #[must_use]
    pub fn named(mut self, name: &ObjectName) -> Self {
        self.0.name = Some(*name);
        self
    }

    /// Says what happened and what to do, in place of the kind's own words.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Which object it was about, if about one.
    #[must_use]
    pub fn name(&self) -> Option<&ObjectName> {
        self.0.name.as_ref()
    }

    /// Where the store is, if known.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        self.0.location.as_deref()
    }

    /// Whether the same call may work later without anybody doing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.0.kind.is_transient()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { kind, location, name, detail, .. } = &*self.0;
        if let Some(location) = location {
            write!(f, "{location}: ")?;
        }
        if let Some(name) = name {
            write!(f, "object {name}: ")?;
        }
        match detail {
            Some(detail) => f.write_str(detail),
            None => kind.fmt(f),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { kind, source, .. } = &*self.0;
        write!(f, "{kind:?}({self}")?;
        if let Some(source) = source {
            write!(f, ": {source}")?;
        }
        f.write_str(")")
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, ErrorKind};
    use crate::store::ObjectName;
    use std::error::Error as _;

    #[test]
    fn says_what_where_and_why() {
        let error = Error::new(ErrorKind::Full)
            .at("file:///s")
            .named(&ObjectName::vault(3))
            .because(std::io::Error::from_raw_os_error(28));
        assert_eq!(
            error.to_string(),
            "file:///s: object vault.3: no space left; free space or raise the quota of the store"
        );
        assert!(error.source().unwrap().to_string().contains("No space"));
        assert_eq!(error.clone().kind(), ErrorKind::Full);
        assert_eq!(error.name(), Some(&ObjectName::vault(3)));
        assert_eq!(error.location(), Some("file:///s"));
    }

    #[test]
    fn only_waiting_helps_only_where_it_helps() {
        for kind in [ErrorKind::Offline, ErrorKind::Throttled { retry_after_ms: 7 }] {
            assert!(Error::new(kind).is_transient());
        }
        for kind in [
            ErrorKind::NotFound,
            ErrorKind::Denied,
            ErrorKind::Full,
            ErrorKind::TooLarge,
            ErrorKind::Io,
            ErrorKind::Unsupported,
            ErrorKind::Invalid,
        ] {
            assert!(!Error::new(kind).is_transient());
        }
    }
}

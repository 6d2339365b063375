//! What can go wrong, and what it means to a caller of the file system.

use crate::{data, meta, store};
use std::path::PathBuf;
use vfs::ErrorKind;

/// Why an engine cannot be opened or cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or keeping data failed.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// The local database failed.
    #[error(transparent)]
    Db(#[from] meta::db::Error),
    /// The log does not fit the state.
    #[error("the log does not fold: {0}")]
    Fold(#[from] meta::fold::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A local file failed.
    #[error("{}: {source}", path.display())]
    Local {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Shorthand for an engine's result.
pub type Result<T> = std::result::Result<T, Error>;

fn of_store(error: &store::Error) -> ErrorKind {
    if error.kind().is_transient() { ErrorKind::Unavailable } else { ErrorKind::Io }
}

fn of_data(error: &data::Error) -> ErrorKind {
    match error {
        _ if error.is_full() => ErrorKind::NoSpace,
        _ if error.is_corruption() => ErrorKind::Corrupt,
        data::Error::Store(error) => of_store(error),
        _ => ErrorKind::Io,
    }
}

impl Error {
    /// What a caller of the file system is told.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Data(error) => of_data(error),
            Self::Db(error) if error.is_full() => ErrorKind::NoSpace,
            Self::Store(error) => of_store(error),
            Self::Fold(_) => ErrorKind::Corrupt,
            Self::Local { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                ErrorKind::NoSpace
            }
            Self::Db(_) | Self::Local { .. } => ErrorKind::Io,
        }
    }
}

impl From<Error> for vfs::Error {
    fn from(error: Error) -> Self {
        Self::because(error.kind(), error)
    }
}

/// For `?` in the trait's methods: a cause becomes a kind in one place.
pub(super) fn told<E: Into<Error>>(error: E) -> vfs::Error {
    error.into().into()
}

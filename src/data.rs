//! File data: blocks in packs, the trees that name them, and what was written
//! but is not in blocks yet.

pub mod blocks;
pub mod extents;
pub mod file;
pub mod layer;
pub mod manifest;
pub mod pack;
pub mod parts;

use crate::ids::{BlockId, PackId};
use std::path::PathBuf;

/// Why data cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A local file of packs failed.
    #[error("{}: {source}", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A local file could not be made durable: whatever the system said, nobody
    /// knows what of it is on the disk.
    #[error("{}: syncing failed: {source}", path.display())]
    Sync {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What was saved here and nowhere else is gone.
    #[error(
        "{}: {packs} files with {bytes} bytes that were saved and not yet uploaded are missing or shortened; put them back, or go on without what was in them from the store with `tgcryptfs fsck --rebuild --force`, which sets the local state aside", dir.display()
    )]
    UnsentLost {
        /// The directory.
        dir: PathBuf,
        /// How many.
        packs: usize,
        /// Bytes that a transaction refers to.
        bytes: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    /// A pack is not what was announced.
    #[error(transparent)]
    Pack(#[from] pack::Error),
    /// A block's bytes are not those that were sealed.
    #[error("block {id} in pack {pack} is corrupt: {reason}")]
    Corrupt {
        /// The block.
        id: BlockId,
        /// Where it should be.
        pack: PackId,
        /// What does not hold.
        reason: String,
    },
    /// A block that something refers to is in no pack.
    #[error("block {id} is in no known pack; `tgcryptfs fsck` names the files it belongs to")]
    Missing {
        /// The block.
        id: BlockId,
    },
    /// A tree node opened but breaks the format.
    #[error("tree node {id} is malformed")]
    Node {
        /// The node.
        id: BlockId,
    },
    /// The local database failed.
    #[error(transparent)]
    Db(#[from] crate::meta::db::Error),
}

/// Shorthand for a data result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Whether stored bytes are wrong, as opposed to out of reach.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        matches!(
            self,
            Self::Pack(_) | Self::Corrupt { .. } | Self::Missing { .. } | Self::Node { .. }
        )
    }

    /// Whether another copy may be better.
    fn is_of_copy(&self) -> bool {
        self.is_corruption() || matches!(self, Self::Cache { .. })
    }

    /// Whether it may be that just something stored cannot be read, as opposed to
    /// nothing being kept any more.
    #[must_use]
    pub fn is_about_stored(&self) -> bool {
        !self.is_full() && !matches!(self, Self::Db(_))
    }

    /// Whether the store cannot be asked now.
    #[must_use]
    pub fn is_out_of_reach(&self) -> bool {
        matches!(self, Self::Store(error) if error.kind().is_transient())
    }

    /// Whether the store has lost what it had confirmed, or shows something else.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        let is_gone =
            |error: &crate::store::Error| error.kind() == crate::store::ErrorKind::NotFound;
        self.is_corruption() || matches!(self, Self::Store(error) if is_gone(error))
    }

    /// Whether the disk is full and nothing was changed.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Cache { source, .. } => matches!(
                source.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            ),
            Self::Db(error) => error.is_full(),
            _ => false,
        }
    }
}

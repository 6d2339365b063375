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
    /// Changes to a file could not be merged with what it held before.
    #[error(
        "the latest changes to the file with inode number {ino} stay on this machine, because what it held before cannot be read: {source}"
    )]
    Unmerged {
        /// The file.
        ino: u64,
        /// What could not be read.
        source: std::sync::Arc<data::Error>,
    },
    /// The log does not fit the state.
    #[error("the log does not fold: {0}")]
    Fold(#[from] meta::fold::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The vault does not open.
    #[error(transparent)]
    Vault(#[from] crate::vault::VaultError),
    /// A membership record cannot be made, or there is none.
    #[error(transparent)]
    Membership(#[from] crate::vault::MembershipError),
    /// A membership record of the store is not acceptable.
    #[error("object {name}: {source}")]
    MembershipObject {
        /// Its name in the store.
        name: String,
        /// What does not hold.
        source: crate::vault::MembershipError,
    },
    /// An object is not what was sealed.
    #[error("object {name}: {source}")]
    Object {
        /// Its name in the store.
        name: String,
        /// What does not hold.
        source: crate::crypto::Corrupt,
    },
    /// Something signed breaks the format.
    #[error("a record of the log is malformed: {0}")]
    Decode(#[from] crate::codec::DecodeError),
    /// Something to be sealed is too long.
    #[error(transparent)]
    TooLong(#[from] crate::crypto::envelope::TooLong),
    /// There is no vault.
    #[error("there is no vault in {store}; make one with `tgcryptfs init`")]
    NoVault {
        /// The store.
        store: String,
    },
    /// The store is empty, but this machine knows a vault there.
    #[error(
        "there is no vault in {store}, where this machine has one: is the disk or directory mounted? What is known of that vault is in {}; move it away to make another there", state_dir.display()
    )]
    VaultGone {
        /// The store.
        store: String,
        /// Where what is known of the vault lies.
        state_dir: PathBuf,
    },
    /// There is a vault already.
    #[error("there is a vault in {store} already")]
    VaultExists {
        /// The store.
        store: String,
    },
    /// Another machine was faster.
    #[error("another machine made object {name} at the same time; try again")]
    Raced {
        /// The object.
        name: String,
    },
    /// A signature or role does not hold.
    #[error("machine {machine} signed something that it may not, or somebody signed in its name")]
    Unauthorised {
        /// The machine.
        machine: crate::ids::MachineId,
    },
    /// The log of a machine has two continuations.
    #[error(
        "the log of machine {machine} forks at segment {seq}: its identity is used twice, or the store mixes two histories"
    )]
    Fork {
        /// The machine.
        machine: crate::ids::MachineId,
        /// The segment.
        seq: u64,
    },
    /// The store does not have what something that it has depends on.
    #[error("the store withholds segment {seq} of machine {machine}, which later ones depend on")]
    Withheld {
        /// The machine.
        machine: crate::ids::MachineId,
        /// The segment.
        seq: u64,
    },
    /// The store shows less of a log than this machine has seen of it.
    #[error(
        "the store shows an older state than this machine has seen: segment {seq} of machine {machine} is missing or another one; do not write to it, and ask its provider"
    )]
    Rollback {
        /// The machine.
        machine: crate::ids::MachineId,
        /// The segment that was seen.
        seq: u64,
    },
    /// The store shows another membership chain than this machine has seen.
    #[error(
        "the store shows an older or another list of members than this machine has seen: record {n} is missing or another one; do not write to it, and ask its provider"
    )]
    MembershipRollback {
        /// The record that was seen.
        n: u64,
    },
    /// Another machine has written what is not read here, and there are changes
    /// here that are not uploaded.
    #[error(
        "machine {machine} has written since this one last read the store, and there are changes here that are not uploaded: look at them with `mount --read-only`, copy out what is wanted, then go on from the store with `tgcryptfs fsck --rebuild --force`, which sets the local state aside"
    )]
    OtherWriter {
        /// The other machine.
        machine: crate::ids::MachineId,
    },
    /// The own log goes on in the store behind what is known of it here.
    #[error(
        "the local state was restored from a backup or copied to another machine, and holds changes that the store does not have; look at it with `mount --read-only`, or go on from the store with `tgcryptfs fsck --rebuild --force`, which sets the local state aside"
    )]
    Diverged,
    /// The file of anchors is damaged.
    #[error("{}: the file is damaged; move it away if you trust what the store shows now", path.display())]
    Anchors {
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint that should be there is not.
    #[error("checkpoint {number} of machine {machine} is not in the store")]
    NoCheckpoint {
        /// The author.
        machine: crate::ids::MachineId,
        /// Which of the author's.
        number: u64,
    },
    /// A checkpoint breaks the rules.
    #[error("checkpoint {number} of machine {machine} is broken: {reason}")]
    BrokenCheckpoint {
        /// The author.
        machine: crate::ids::MachineId,
        /// Which of the author's.
        number: u64,
        /// How.
        reason: &'static str,
    },
    /// The state is too large for a checkpoint.
    #[error("a checkpoint would take {packs} packs, more than 64; raise chunk.chunk_size")]
    CheckpointTooLarge {
        /// Packs it would take.
        packs: usize,
    },
    /// This machine has no key for an epoch.
    #[error("this machine has no key for epoch {epoch}")]
    NoKey {
        /// The epoch.
        epoch: u32,
    },
    /// The database lacks what every database has.
    #[error("the local database is incomplete; rebuild it with `tgcryptfs fsck --rebuild`")]
    NoState,
    /// The identity or pin file is damaged.
    #[error("{}: the file is damaged or belongs to another vault; move it away to join as a new machine", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
    },
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
            Self::Unmerged { source, .. } => of_data(source),
            Self::Db(error) if error.is_full() => ErrorKind::NoSpace,
            Self::Store(error) => of_store(error),
            Self::Fold(_)
            | Self::Membership(_)
            | Self::MembershipObject { .. }
            | Self::Object { .. }
            | Self::Decode(_)
            | Self::Unauthorised { .. }
            | Self::Fork { .. }
            | Self::Withheld { .. }
            | Self::Rollback { .. }
            | Self::MembershipRollback { .. }
            | Self::NoCheckpoint { .. }
            | Self::BrokenCheckpoint { .. } => ErrorKind::Corrupt,
            Self::Local { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                ErrorKind::NoSpace
            }
            _ => ErrorKind::Io,
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

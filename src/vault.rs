//! A vault: one master key, the key slots that wrap it, and the membership of
//! its namespaces.
//!
//! Everything here is bytes to bytes; where the header and the records lie is
//! for others. The header is the only object that is read before there is a key,
//! so its bounds are checked before anything is computed, unlocking runs one key
//! derivation and no more, and nothing in it is believed until the master key
//! has authenticated all of it.

pub mod crockford;
pub mod header;
pub mod membership;
pub mod password;
pub mod pin;
pub mod recovery;
mod slot;

pub use header::{VaultHeader, create, unlock};
pub use membership::{Member, MembershipError, MembershipRecord};
pub use password::{Credential, KeyFile, Passphrase, PasswordError};
pub use pin::{Fingerprint, Pin, check_pin};
pub use recovery::{RecoveryCode, RecoveryCodeError};
pub use slot::{SlotId, SlotInfo, SlotKind};

use crate::codec::DecodeError;
use crate::crypto::kdf::{Argon2Params, KdfOutOfBounds, KdfOutOfMemory};

/// Why a vault does not open or cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The bytes are something else.
    #[error("this is not a vault header")]
    NotAVault,
    /// A newer program made it.
    #[error("the vault has format version {version}, this program knows version 1: update it")]
    VersionTooNew {
        /// Its version.
        version: u8,
    },
    /// A slot asks for more or less work than any program would have chosen.
    #[error("the vault header is not to be trusted: {0}")]
    KdfOutOfBounds(#[from] KdfOutOfBounds),
    /// The header does not follow the format.
    #[error("the vault header is damaged: {0}")]
    Corrupt(#[from] DecodeError),
    /// The master key is right, the header is not the one it was used for.
    #[error("the vault header was changed by somebody who does not have the master key")]
    Tampered,
    /// The credential is wrong or the slot was changed; nobody can tell which.
    #[error("wrong passphrase, recovery code or key file, or its key slot was changed")]
    BadPassword,
    /// The vault has no slot for such a credential.
    #[error("the vault has no key slot for a {kind}")]
    NoSlot {
        /// The kind of credential.
        kind: SlotKind,
    },
    /// The slot named is not there.
    #[error("the vault has no key slot {id}")]
    UnknownSlot {
        /// The slot named.
        id: SlotId,
    },
    /// The slot named takes another kind of credential.
    #[error("key slot {id} is for a {slot}, not for a {given}")]
    WrongKind {
        /// The slot named.
        id: SlotId,
        /// What it takes.
        slot: SlotKind,
        /// What was given.
        given: SlotKind,
    },
    /// Without a slot nobody could open the vault again.
    #[error("the last key slot cannot be removed: add another one first")]
    LastSlot,
    /// A header has room for 16 slots.
    #[error("a vault has at most 16 key slots: remove one first")]
    TooManySlots,
    /// The parameters for a new slot are too weak.
    #[error(
        "key derivation with memory {} KiB, passes {}, lanes {} is too weak: \
         at least 19456 KiB and 2 passes are required",
        .0.m_kib(), .0.t(), .0.p()
    )]
    KdfTooWeak(Argon2Params),
    /// The key derivation could not run.
    #[error(transparent)]
    OutOfMemory(#[from] KdfOutOfMemory),
    /// The store shows another vault than the one this machine knows.
    #[error("the store holds vault {found}, this machine knows vault {pinned}")]
    VaultMismatch {
        /// What the store shows.
        found: Fingerprint,
        /// What this machine knows.
        pinned: Fingerprint,
    },
    /// The store shows an older header than this machine has seen.
    #[error(
        "the store shows generation {found} of the vault header, this machine has seen \
         generation {pinned}: an old state was put back"
    )]
    Rollback {
        /// What the store shows.
        found: u64,
        /// The newest this machine has seen.
        pinned: u64,
    },
}

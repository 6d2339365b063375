//! Sealing and opening, and the keys for it: `docs/FORMAT.md` §2, §4, §5, §6.
//!
//! The modules below turn bytes into bytes and touch neither a store nor a file.
//! Every key has one purpose and a type or name that says which; an object's
//! type and place are part of every key and of the associated data, so an object
//! opens only as what it is and where it belongs. Nothing read from a store
//! chooses an algorithm or a parameter of encryption.

pub mod aead;
pub mod block;
pub mod compress;
pub mod context;
pub mod envelope;
pub mod ids;
pub mod kdf;
pub mod keys;
pub mod names;
pub mod secret;
pub mod sign;
mod sys;

pub use context::{Context, ObjectType};
pub use ids::{BlockId, Epoch, Incarnation, MachineId, NamespaceId, PackId, VaultId};
pub use keys::{EpochKeys, EpochSecret, MasterKey, NamespaceKeys};
pub use secret::{Key32, Secret, harden_process};
pub use sign::{PublicKey, SignatureKind, SigningKey};

/// An object whose bytes are not what was sealed under that name.
///
/// The store lost part of it, mixed it up with another one or changed it; which
/// of these cannot be told, so callers treat all kinds alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {object} is damaged or was tampered with ({kind})")]
pub struct Corrupt {
    /// What was asked for.
    pub object: ObjectType,
    /// The check that failed.
    pub kind: CorruptKind,
}

/// The checks an object must pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CorruptKind {
    /// No object of this type has that length.
    #[error("impossible length")]
    Length,
    /// It was sealed as something else, for another place, or under other keys.
    #[error("wrong commitment")]
    Commitment,
    /// Its bytes were changed.
    #[error("authentication failed")]
    Authentication,
    /// What fills it up is not what the format prescribes.
    #[error("wrong padding")]
    Padding,
    /// It does not decompress to the length it promises.
    #[error("decompression failed")]
    Compression,
    /// Its content does not belong to its id.
    #[error("the content does not match the id")]
    Identity,
}

impl ObjectType {
    /// The error that says an object of this type failed a check.
    #[must_use]
    pub fn corrupt(self, kind: CorruptKind) -> Corrupt {
        Corrupt { object: self, kind }
    }
}

/// The AES-GCM nonce: 12 random bytes.
pub type Nonce = [u8; NONCE_LEN];

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 12;
/// Bytes of an authentication tag.
pub const TAG_LEN: usize = 16;

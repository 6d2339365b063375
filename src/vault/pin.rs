//! What a machine remembers of a vault, so that the store cannot show it another
//! one or an older state.

use super::VaultError;
use super::crockford;
use super::header::VaultHeader;
use crate::codec::{Reader, Writer};
use crate::crypto::{PublicKey, VaultId};
use std::fmt;

const MAGIC: &[u8; 8] = b"TGCFSPIN";
const VERSION: u8 = 1;

/// Characters of a fingerprint: 100 bits.
const FINGERPRINT_DIGITS: usize = 20;

/// The vault a machine knows, and the newest header of it that it has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The vault.
    pub vault: VaultId,
    /// Its owner's public key.
    pub owner: PublicKey,
    /// The highest generation seen.
    pub generation: u64,
}

impl Pin {
    /// What to remember of a header that has been authenticated.
    #[must_use]
    pub fn of(header: &VaultHeader) -> Self {
        let (vault, owner) = (header.vault(), *header.owner());
        Self { vault, owner, generation: header.generation() }
    }

    /// The bytes to keep.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(MAGIC).u8(VERSION).raw(&self.vault.0).raw(self.owner.as_bytes());
        w.u64(self.generation);
        w.into_vec()
    }

    /// Reads what was kept; `None` if it is something else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader::new(bytes);
        let is_ours = r.array("magic") == Ok(*MAGIC) && r.u8("version") == Ok(VERSION);
        let vault = VaultId(r.array("vault").ok()?);
        let owner = PublicKey::from_bytes(&r.array("owner").ok()?).ok()?;
        let generation = r.u64("generation").ok()?;
        r.finish("pin").ok()?;
        is_ours.then_some(Self { vault, owner, generation })
    }

    /// What people compare.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::new(self.vault, &self.owner)
    }
}

/// Compares a header with what the machine remembers; to be done before anybody
/// types a passphrase.
///
/// # Errors
///
/// [`VaultError::VaultMismatch`] or [`VaultError::Rollback`].
pub fn check_pin(header: &VaultHeader, pin: &Pin) -> Result<(), VaultError> {
    if header.vault() != pin.vault || *header.owner() != pin.owner {
        let found = Fingerprint::new(header.vault(), header.owner());
        return Err(VaultError::VaultMismatch { found, pinned: pin.fingerprint() });
    }
    if header.generation() < pin.generation {
        let (found, pinned) = (header.generation(), pin.generation);
        return Err(VaultError::Rollback { found, pinned });
    }
    Ok(())
}

/// A vault's identity in a form that people can compare: five groups of four
/// characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; FINGERPRINT_DIGITS]);

impl Fingerprint {
    /// The fingerprint of a vault and its owner.
    #[must_use]
    pub fn new(vault: VaultId, owner: &PublicKey) -> Self {
        let hash = blake3::Hasher::new()
            .update(b"tgcryptfs/v1/vault fingerprint")
            .update(&vault.0)
            .update(owner.as_bytes())
            .finalize();
        let mut digits = [0; FINGERPRINT_DIGITS];
        let values = crockford::values(hash.as_bytes(), FINGERPRINT_DIGITS);
        digits.iter_mut().zip(values).for_each(|(digit, value)| *digit = value);
        Self(digits)
    }

    /// Says whether somebody typed this fingerprint, all of it.
    #[must_use]
    pub fn matches(&self, typed: &str) -> bool {
        let digits = typed.chars().filter(|&character| !crockford::is_separator(character));
        digits.map(crockford::value).eq(self.0.iter().map(|&digit| Some(digit)))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        crockford::write_grouped(self.0, &mut text);
        f.write_str(&text)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

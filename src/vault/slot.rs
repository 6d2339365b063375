//! Key slots: the master key, wrapped for one credential each.

use super::VaultError;
use super::password::Credential;
use crate::codec::{Problem, Reader, Result as DecodeResult, Writer};
use crate::crypto::kdf::{Argon2Params, argon2id, derive, derive_public, extract};
use crate::crypto::{Key32, MasterKey, Nonce, PublicKey, Secret, TAG_LEN, VaultId, aead};
use crate::env::Env;
use std::fmt;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Bytes of a slot.
pub(super) const SLOT_LEN: usize = 160;

/// Zeros that fill a slot.
const PADDING_LEN: usize = 22;
/// Master key and tag.
const WRAPPED_LEN: usize = 32 + TAG_LEN;

/// Tells slots of one vault apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlotId(pub [u8; 8]);

impl SlotId {
    /// Reads the form that is shown: 16 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = is_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten()?;
        Some(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotId({self})")
    }
}

/// The kinds of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SlotKind {
    /// A passphrase.
    Passphrase = 1,
    /// A recovery code.
    Recovery = 2,
    /// A key file.
    KeyFile = 3,
}

impl fmt::Display for SlotKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passphrase => "passphrase",
            Self::Recovery => "recovery code",
            Self::KeyFile => "key file",
        })
    }
}

/// What anybody may know of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotInfo {
    /// Its id.
    pub id: SlotId,
    /// What opens it.
    pub kind: SlotKind,
    /// The work of guessing, for a passphrase.
    pub argon2: Option<Argon2Params>,
    /// When it was made, seconds since the Unix epoch.
    pub created_s: u64,
}

/// What a slot is bound to besides itself.
#[derive(Clone, Copy)]
pub(super) struct Binding<'a> {
    pub(super) vault: VaultId,
    pub(super) owner: &'a PublicKey,
}

/// A slot as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    info: SlotInfo,
    salt: [u8; 16],
    commit: [u8; 32],
    nonce: Nonce,
    wrapped: [u8; WRAPPED_LEN],
}

/// The random part of a slot, and its age.
pub(super) struct Fresh {
    pub(super) id: SlotId,
    pub(super) salt: [u8; 16],
    pub(super) nonce: Nonce,
    pub(super) created_s: u64,
}

impl Fresh {
    pub(super) fn new(env: &Env) -> Self {
        Self {
            id: SlotId(env.random_array()),
            salt: env.random_array(),
            nonce: env.random_array(),
            created_s: u64::try_from(env.now().seconds).unwrap_or(0),
        }
    }
}

impl Slot {
    pub(super) fn info(&self) -> SlotInfo {
        self.info
    }

    /// Wraps a master key; `argon2` is for passphrases.
    pub(super) fn wrap(
        fresh: &Fresh,
        binding: Binding<'_>,
        master: &MasterKey,
        credential: &Credential,
        argon2: Argon2Params,
    ) -> Result<Self, VaultError> {
        let kind = credential.kind();
        let argon2 = (kind == SlotKind::Passphrase).then_some(argon2);
        let info = SlotInfo { id: fresh.id, kind, argon2, created_s: fresh.created_s };
        let mut slot = Self {
            info,
            salt: fresh.salt,
            commit: [0; 32],
            nonce: fresh.nonce,
            wrapped: [0; WRAPPED_LEN],
        };
        let aad = slot.aad(binding);
        let keys = slot.keys(credential, &aad)?;
        let mut wrapped = Zeroizing::new(Vec::with_capacity(WRAPPED_LEN));
        wrapped.extend_from_slice(master.bytes().expose());
        aead::seal_in_place(&keys.key, &slot.nonce, &aad, &mut wrapped);
        slot.wrapped.copy_from_slice(&wrapped);
        slot.commit = keys.commit;
        Ok(slot)
    }

    /// Unwraps the master key. A wrong credential and a slot that was changed
    /// take the same path to the same error.
    pub(super) fn unwrap(
        &self,
        binding: Binding<'_>,
        credential: &Credential,
    ) -> Result<MasterKey, VaultError> {
        let aad = self.aad(binding);
        let keys = self.keys(credential, &aad)?;
        if !bool::from(keys.commit.ct_eq(&self.commit)) {
            return Err(VaultError::BadPassword);
        }
        let mut wrapped = Zeroizing::new(self.wrapped);
        let opened = aead::open_in_place(&keys.key, &self.nonce, &aad, &mut wrapped[..]);
        let bytes = opened.map_err(|_| VaultError::BadPassword)?;
        let bytes = bytes.first_chunk().ok_or(VaultError::BadPassword)?;
        Ok(MasterKey::new(binding.vault, Secret::copy_of(bytes)))
    }

    fn keys(&self, credential: &Credential, aad: &[u8]) -> Result<SlotKeys, VaultError> {
        let kek = self.key_of(credential)?;
        let prk = extract(b"tgcryptfs/v1/slot", kek.expose());
        Ok(SlotKeys {
            commit: derive_public(&prk, "slot-commit", &[aad]),
            key: derive(&prk, "slot-key", &[aad]),
        })
    }

    fn key_of(&self, credential: &Credential) -> Result<Key32, VaultError> {
        let id = self.info.id;
        Ok(match (credential, self.info.argon2) {
            (Credential::Passphrase(passphrase), Some(params)) => {
                argon2id(passphrase.as_bytes(), &self.salt, params)?
            }
            (Credential::Recovery(code), None) if self.info.kind == SlotKind::Recovery => {
                derive(&extract(&self.salt, code.bytes()), "kek-recovery", &[])
            }
            (Credential::KeyFile(file), None) if self.info.kind == SlotKind::KeyFile => {
                derive(&extract(&self.salt, file.as_bytes()), "kek-keyfile", &[])
            }
            _ => {
                let (slot, given) = (self.info.kind, credential.kind());
                return Err(VaultError::WrongKind { id, slot, given });
            }
        })
    }

    /// Everything in the slot that a key is derived from, and whose slot it is.
    fn aad(&self, binding: Binding<'_>) -> Vec<u8> {
        let mut aad = Writer::with_capacity(128);
        aad.raw(super::header::MAGIC).u8(super::header::VERSION);
        aad.raw(&binding.vault.0).raw(binding.owner.as_bytes());
        self.write_parameters(&mut aad);
        aad.into_vec()
    }

    fn write_parameters(&self, writer: &mut Writer) {
        let SlotInfo { id, kind, argon2, .. } = self.info;
        let (kdf, m_kib, t, p) = match argon2 {
            Some(params) => (KDF_ARGON2ID, params.m_kib(), params.t(), params.p()),
            None => (KDF_HKDF, 0, 0, 0),
        };
        writer.raw(&id.0).u8(kind as u8).u8(kdf).u32(m_kib).u32(t).u32(p).raw(&self.salt);
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        self.write_parameters(writer);
        writer.u64(self.info.created_s).raw(&self.commit).raw(&self.nonce).raw(&self.wrapped);
        writer.zeros(PADDING_LEN);
    }

    /// Reads a slot, bounds of the key derivation first.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, VaultError> {
        let id = SlotId(reader.array("slot id")?);
        let kind = reader.code("slot kind", |code| match code {
            1 => Some(SlotKind::Passphrase),
            2 => Some(SlotKind::Recovery),
            3 => Some(SlotKind::KeyFile),
            _ => None,
        })?;
        let argon2 = read_kdf(reader, kind)?;
        Ok(Self::read_rest(reader, id, kind, argon2)?)
    }

    fn read_rest(
        reader: &mut Reader<'_>,
        id: SlotId,
        kind: SlotKind,
        argon2: Option<Argon2Params>,
    ) -> DecodeResult<Self> {
        let salt = reader.array("slot salt")?;
        let created_s = reader.u64("slot age")?;
        let info = SlotInfo { id, kind, argon2, created_s };
        let commit = reader.array("slot commitment")?;
        let nonce = reader.array("slot nonce")?;
        let wrapped = reader.array("wrapped key")?;
        reader.zeros("slot padding", PADDING_LEN)?;
        Ok(Self { info, salt, commit, nonce, wrapped })
    }
}

const KDF_ARGON2ID: u8 = 1;
const KDF_HKDF: u8 = 2;

fn read_kdf(reader: &mut Reader<'_>, kind: SlotKind) -> Result<Option<Argon2Params>, VaultError> {
    let offset = reader.offset();
    let kdf = reader.u8("key derivation")?;
    let (m_kib, t) = (reader.u32("memory")?, reader.u32("passes")?);
    let p = reader.u32("lanes")?;
    let invalid = |rule| {
        let error = reader.error_at(offset, "key derivation", Problem::Invalid { rule });
        Err(error.into())
    };
    match (kind, kdf) {
        (SlotKind::Passphrase, KDF_ARGON2ID) => Ok(Some(Argon2Params::new(m_kib, t, p)?)),
        (SlotKind::Recovery | SlotKind::KeyFile, KDF_HKDF) if (m_kib, t, p) == (0, 0, 0) => {
            Ok(None)
        }
        (SlotKind::Recovery | SlotKind::KeyFile, KDF_HKDF) => invalid("HKDF has no parameters"),
        _ => invalid("passphrases take Argon2id, all else HKDF"),
    }
}

struct SlotKeys {
    commit: [u8; 32],
    key: Key32,
}

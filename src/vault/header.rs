//! The vault header: `docs/FORMAT.md` §3.
//!
//! A header that was read is only a claim until [`unlock`] has found the master
//! key and compared the authenticator with it. Every change makes a new header
//! with a higher generation, out of one that was authenticated.

use super::VaultError;
use super::password::Credential;
use super::slot::{Binding, Fresh, SLOT_LEN, Slot, SlotId, SlotInfo};
use crate::codec::{DecodeError, Problem, Reader, Writer};
use crate::crypto::kdf::{Argon2Params, is_mac_valid, mac};
use crate::crypto::{MasterKey, PublicKey, VaultId};
use crate::env::Env;

pub(super) const MAGIC: &[u8; 8] = b"TGCFSVLT";
pub(super) const VERSION: u8 = 1;

/// Bytes of a header at most; nobody needs to fetch more.
pub const HEADER_LEN_MAX: usize = 4 << 10;
/// Key slots of a vault at most.
pub const SLOTS_MAX: usize = 16;

const MAC_LEN: usize = 32;

/// What stands at the top of a vault, readable by anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultHeader {
    vault: VaultId,
    generation: u64,
    owner: PublicKey,
    slots: Vec<Slot>,
    mac: [u8; MAC_LEN],
}

/// Makes a new vault that the given credentials open; passphrases take the work
/// that `argon2` says.
///
/// # Errors
///
/// [`VaultError`] if there are none or too many, or the parameters are too weak.
pub fn create(
    env: &Env,
    credentials: &[&Credential],
    argon2: Argon2Params,
) -> Result<(VaultHeader, MasterKey), VaultError> {
    let master = MasterKey::random(env, VaultId::random(env));
    let owner = *master.owner_signing_key().public();
    let mut header =
        VaultHeader { vault: master.vault(), generation: 1, owner, slots: vec![], mac: [0; 32] };
    for credential in credentials {
        header.push_slot(&Fresh::new(env), &master, credential, argon2)?;
    }
    header.authenticate(&master)?;
    Ok((header, master))
}

/// Finds the master key with one credential, trying one slot: the one named, or
/// else the first for that kind of credential.
///
/// # Errors
///
/// [`VaultError::BadPassword`] if the credential does not open the slot,
/// [`VaultError::Tampered`] if the rest of the header is not the owner's.
pub fn unlock(
    header: &VaultHeader,
    credential: &Credential,
    slot: Option<SlotId>,
) -> Result<MasterKey, VaultError> {
    let kind = credential.kind();
    let slot = match slot {
        Some(id) => header.slot(id)?,
        None => {
            let first = header.slots.iter().find(|slot| slot.info().kind == kind);
            first.ok_or(VaultError::NoSlot { kind })?
        }
    };
    let master = slot.unwrap(header.binding(), credential)?;
    header.check(&master)?;
    Ok(master)
}

impl VaultHeader {
    /// Reads a header; nothing in it is believed yet.
    ///
    /// # Errors
    ///
    /// [`VaultError`] if it is none, or breaks a bound.
    pub fn parse(bytes: &[u8]) -> Result<Self, VaultError> {
        let mut reader = Reader::new(bytes);
        if bytes.len() > HEADER_LEN_MAX || reader.raw("magic", MAGIC.len()) != Ok(MAGIC) {
            return Err(VaultError::NotAVault);
        }
        let version = reader.u8("version")?;
        if version != VERSION {
            return Err(VaultError::VersionTooNew { version });
        }
        let vault = VaultId(reader.array("vault id")?);
        let generation = read_generation(&mut reader)?;
        let owner = read_owner(&mut reader)?;
        let slots = read_slots(&mut reader)?;
        let mac = reader.array("authenticator")?;
        reader.finish("vault header")?;
        Ok(Self { vault, generation, owner, slots, mac })
    }

    /// The header as it is stored.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.encode_without_mac();
        bytes.extend_from_slice(&self.mac);
        bytes
    }

    fn encode_without_mac(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(128 + self.slots.len() * SLOT_LEN);
        writer.raw(MAGIC).u8(VERSION).raw(&self.vault.0).u64(self.generation);
        writer.raw(self.owner.as_bytes());
        writer.u8(u8::try_from(self.slots.len()).expect("at most 16 slots"));
        for slot in &self.slots {
            slot.write(&mut writer);
        }
        writer.into_vec()
    }

    /// The vault.
    #[must_use]
    pub fn vault(&self) -> VaultId {
        self.vault
    }

    /// Rises with every change of the header.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The owner's public key.
    #[must_use]
    pub fn owner(&self) -> &PublicKey {
        &self.owner
    }

    /// The key slots, in order.
    pub fn slots(&self) -> impl ExactSizeIterator<Item = SlotInfo> + '_ {
        self.slots.iter().map(Slot::info)
    }

    /// The header of the next generation with one more slot.
    ///
    /// # Errors
    ///
    /// [`VaultError`] if there is no room, or the parameters are too weak.
    pub fn add_slot(
        &self,
        env: &Env,
        master: &MasterKey,
        credential: &Credential,
        argon2: Argon2Params,
    ) -> Result<Self, VaultError> {
        let mut next = self.next(master)?;
        next.push_slot(&Fresh::new(env), master, credential, argon2)?;
        next.authenticate(master)?;
        Ok(next)
    }

    /// The header of the next generation without one slot. Whoever kept the
    /// earlier header can still open it with the slot's credential.
    ///
    /// # Errors
    ///
    /// [`VaultError`] if it is not there, or the last one.
    pub fn remove_slot(&self, master: &MasterKey, id: SlotId) -> Result<Self, VaultError> {
        let mut next = self.next(master)?;
        next.slot(id)?;
        next.slots.retain(|slot| slot.info().id != id);
        next.authenticate(master)?;
        Ok(next)
    }

    /// The header of the next generation with a new slot in the place of an old
    /// one: another passphrase, or another recovery code.
    ///
    /// # Errors
    ///
    /// [`VaultError`] if the old one is not there, or the parameters are too weak.
    pub fn replace_slot(
        &self,
        env: &Env,
        master: &MasterKey,
        old: SlotId,
        credential: &Credential,
        argon2: Argon2Params,
    ) -> Result<Self, VaultError> {
        let mut next = self.next(master)?;
        next.slot(old)?;
        next.slots.retain(|slot| slot.info().id != old);
        next.push_slot(&Fresh::new(env), master, credential, argon2)?;
        next.authenticate(master)?;
        Ok(next)
    }

    /// Checks that the owner of `master` wrote all of this header.
    ///
    /// # Errors
    ///
    /// [`VaultError::Tampered`] if not.
    pub fn check(&self, master: &MasterKey) -> Result<(), VaultError> {
        let key = master.vault_mac_key();
        let is_owner = *master.owner_signing_key().public() == self.owner;
        if is_owner && is_mac_valid(&key, &self.encode_without_mac(), &self.mac) {
            Ok(())
        } else {
            Err(VaultError::Tampered)
        }
    }

    fn next(&self, master: &MasterKey) -> Result<Self, VaultError> {
        self.check(master)?;
        let generation = self.generation.checked_add(1).ok_or(VaultError::Tampered)?;
        Ok(Self { generation, ..self.clone() })
    }

    fn push_slot(
        &mut self,
        fresh: &Fresh,
        master: &MasterKey,
        credential: &Credential,
        argon2: Argon2Params,
    ) -> Result<(), VaultError> {
        if self.slots.len() >= SLOTS_MAX {
            return Err(VaultError::TooManySlots);
        }
        if !argon2.is_at_least(Argon2Params::FLOOR) {
            return Err(VaultError::KdfTooWeak(argon2));
        }
        let slot = Slot::wrap(fresh, self.binding(), master, credential, argon2)?;
        self.slots.push(slot);
        Ok(())
    }

    fn authenticate(&mut self, master: &MasterKey) -> Result<(), VaultError> {
        if self.slots.is_empty() {
            return Err(VaultError::LastSlot);
        }
        self.mac = mac(&master.vault_mac_key(), &self.encode_without_mac());
        Ok(())
    }

    fn slot(&self, id: SlotId) -> Result<&Slot, VaultError> {
        let slot = self.slots.iter().find(|slot| slot.info().id == id);
        slot.ok_or(VaultError::UnknownSlot { id })
    }

    fn binding(&self) -> Binding<'_> {
        Binding { vault: self.vault, owner: &self.owner }
    }
}

fn read_generation(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let offset = reader.offset();
    match reader.u64("generation")? {
        0 => {
            let rule = "generations count from 1";
            Err(reader.error_at(offset, "generation", Problem::Invalid { rule }))
        }
        generation => Ok(generation),
    }
}

fn read_owner(reader: &mut Reader<'_>) -> Result<PublicKey, DecodeError> {
    let offset = reader.offset();
    let bytes = reader.array("owner key")?;
    PublicKey::from_bytes(&bytes).map_err(|_| {
        let rule = "public keys are canonical and not of small order";
        reader.error_at(offset, "owner key", Problem::Invalid { rule })
    })
}

fn read_slots(reader: &mut Reader<'_>) -> Result<Vec<Slot>, VaultError> {
    let offset = reader.offset();
    let count = usize::from(reader.u8("slot count")?);
    if !(1..=SLOTS_MAX).contains(&count) {
        let problem = Problem::TooLong { len: count, max: SLOTS_MAX };
        return Err(reader.error_at(offset, "slot count", problem).into());
    }
    let mut slots = Vec::with_capacity(count);
    for _ in 0..count {
        let offset = reader.offset();
        let slot = Slot::read(reader)?;
        if slots.iter().any(|earlier: &Slot| earlier.info().id == slot.info().id) {
            let rule = "slot ids are distinct";
            return Err(reader.error_at(offset, "slot id", Problem::Invalid { rule }).into());
        }
        slots.push(slot);
    }
    Ok(slots)
}

#[cfg(test)]
mod tests;

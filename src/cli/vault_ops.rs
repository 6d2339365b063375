//! What the command line does with the vault header: looking whether there is a
//! vault, and its key slots.
//!
//! Invariants: a header is written under a new name that must be free, so of two
//! programs that change it at the same time one is told to try again; the header that
//! was opened stays until the new one is in the store; the last three are kept.

use super::context::Context;
use super::exit::{Code, Failure};
use super::session::{self, Create, Store};
use crate::crypto::MasterKey;
use crate::engine;
use crate::store::{self, ObjectName, PutMode, PutOutcome};
use crate::vault::{
    self, Credential, Pin, RecoveryCode, SlotId, SlotInfo, SlotKind, VaultError, VaultHeader,
};
use anyhow::Result;
use tokio::runtime::Runtime;

/// Earlier headers that are kept beside the newest.
const EARLIER_KEPT: u64 = 2;

/// Whether the store holds a vault.
pub(super) fn exists(store: &Store) -> Result<bool> {
    Ok(newest(store, &session::runtime()?)?.is_some())
}

/// Checks a credential against the vault and gives the vault's id.
pub(super) fn unlock(context: &Context, store: &Store, credential: &Credential) -> Result<String> {
    let header = read_newest(context, store, &session::runtime()?)?;
    open(&header, credential).map_err(|failure| failure.in_store(&store.location()))?;
    Ok(session::hex(&header.vault().0))
}

/// The unlocked vault of the configured store.
pub(super) struct Unlocked<'a> {
    context: &'a Context,
    store: Store,
    runtime: Runtime,
    header: VaultHeader,
    master: MasterKey,
    /// The slot that the given credential opened.
    opened: SlotId,
}

impl<'a> Unlocked<'a> {
    /// Opens the vault with the current secret, which every change asks for.
    pub(super) fn new(context: &'a Context, credential: &Credential) -> Result<Self> {
        let store = session::open_store(context, Create::No)?;
        let runtime = session::runtime()?;
        let header = read_newest(context, &store, &runtime)?;
        let opened = open(&header, credential);
        let (master, opened) = opened.map_err(|failure| failure.in_store(&store.location()))?;
        Ok(Self { context, store, runtime, header, master, opened })
    }

    /// Every key slot.
    pub(super) fn list(&self) -> Vec<SlotInfo> {
        self.header.slots().collect()
    }

    /// Adds a slot for another secret.
    pub(super) fn add(&self, new: &Credential) -> Result<SlotId> {
        let argon2 = session::argon2(&self.context.loaded.config)?;
        let next = self.header.add_slot(&self.context.env, &self.master, new, argon2);
        let next = next.map_err(vault_failure)?;
        self.write(&next)?;
        let is_new = |slot: &SlotInfo| self.header.slots().all(|known| known.id != slot.id);
        let added = next.slots().find(is_new).map(|slot| slot.id);
        Ok(added.ok_or_else(|| Failure::new(Code::Other, "look at key list: nothing was added"))?)
    }

    /// Removes a slot.
    pub(super) fn remove(&self, id: SlotId) -> Result<()> {
        self.write(&self.header.remove_slot(&self.master, id).map_err(vault_failure)?)
    }

    /// Replaces the passphrase that was given; if another kind of secret was given, the
    /// only passphrase there is.
    pub(super) fn change_passphrase(&self, new: &Credential) -> Result<()> {
        let old = match self.slots_of(SlotKind::Passphrase)[..] {
            ref slots if slots.contains(&self.opened) => self.opened,
            [] => return self.add(new).map(drop),
            [only] => only,
            _ => {
                let message = "unlock with the password that is to be changed: there are several";
                return Err(Failure::new(Code::Usage, message).into());
            }
        };
        self.replace(old, new)
    }

    /// A recovery code that opens nothing yet.
    pub(super) fn new_recovery_code(&self) -> RecoveryCode {
        RecoveryCode::generate(&self.context.env)
    }

    /// Takes a new recovery code; the old one stops working.
    pub(super) fn rotate_recovery(&self, code: RecoveryCode) -> Result<()> {
        let new = Credential::Recovery(code);
        match self.slots_of(SlotKind::Recovery)[..] {
            [] => self.add(&new).map(drop),
            [old, ..] => self.replace(old, &new),
        }
    }

    fn slots_of(&self, kind: SlotKind) -> Vec<SlotId> {
        self.header.slots().filter(|slot| slot.kind == kind).map(|slot| slot.id).collect()
    }

    fn replace(&self, old: SlotId, new: &Credential) -> Result<()> {
        let argon2 = session::argon2(&self.context.loaded.config)?;
        let next = self.header.replace_slot(&self.context.env, &self.master, old, new, argon2);
        self.write(&next.map_err(vault_failure)?)
    }

    fn write(&self, next: &VaultHeader) -> Result<()> {
        let generation = next.generation();
        let written = self.runtime.block_on(self.store.put(
            &ObjectName::vault(generation),
            next.encode().into(),
            PutMode::CreateIfAbsent,
        ));
        if written.map_err(|e| session::store_failure(&self.store.location(), e))?
            == PutOutcome::AlreadyThere
        {
            let message = "try again: another machine changed the vault's keys just now";
            return Err(Failure::new(Code::Busy, message).into());
        }
        self.remember(next)?;
        for old in generations(&self.store, &self.runtime)? {
            if old < generation.saturating_sub(EARLIER_KEPT) {
                let deleted = self.runtime.block_on(self.store.delete(&ObjectName::vault(old)));
                if let Err(error) = deleted {
                    // The change stands; whoever changes keys next tries again.
                    log::warn!("an old vault header stays in the store: {error}");
                }
            }
        }
        Ok(())
    }

    /// From now on this machine takes no older header for the newest.
    fn remember(&self, next: &VaultHeader) -> Result<()> {
        let state = self.context.paths()?.state;
        if engine::load_pin(&state).map_err(session::engine_failure)?.is_some() {
            engine::save_pin(&state, &Pin::of(next)).map_err(session::engine_failure)?;
        }
        Ok(())
    }
}

fn generations(store: &Store, runtime: &Runtime) -> Result<Vec<u64>> {
    let listed = runtime.block_on(store.list("vault."));
    let listed = listed.map_err(|e| session::store_failure(&store.location(), e))?;
    Ok(listed.iter().filter_map(|object| object.name.vault_generation()).collect())
}

fn newest(store: &Store, runtime: &Runtime) -> Result<Option<u64>> {
    Ok(generations(store, runtime)?.into_iter().max())
}

/// The newest header, if it is of the vault that this machine knows.
fn read_newest(context: &Context, store: &Store, runtime: &Runtime) -> Result<VaultHeader> {
    let Some(generation) = newest(store, runtime)? else {
        let message = "make a vault first: tgcryptfs init (the store holds none)";
        return Err(Failure::new(Code::NotFound, message).into());
    };
    let len_max = vault::header::HEADER_LEN_MAX as u64 + 1;
    let bytes = runtime.block_on(store.get(&ObjectName::vault(generation), Some(0..len_max)));
    let bytes = bytes.map_err(|e: store::Error| session::store_failure(&store.location(), e))?;
    let is_known = |header: &VaultHeader| {
        let pin = engine::load_pin(&context.paths()?.state).map_err(session::engine_failure)?;
        let checked = pin.map_or(Ok(()), |pin| vault::check_pin(header, &pin));
        Ok::<_, anyhow::Error>(checked.map_err(|e| vault_failure(e).in_store(&store.location()))?)
    };
    let parsed = VaultHeader::parse(&bytes);
    let header = parsed.map_err(|e| vault_failure(e).in_store(&store.location()))?;
    is_known(&header)?;
    Ok(header)
}

/// Opens the vault, trying every slot for that kind of credential.
fn open(header: &VaultHeader, credential: &Credential) -> Result<(MasterKey, SlotId), Failure> {
    let kind = credential.kind();
    for slot in header.slots().filter(|slot| slot.kind == kind) {
        match vault::unlock(header, credential, Some(slot.id)) {
            Err(VaultError::BadPassword) => {}
            Ok(master) => return Ok((master, slot.id)),
            Err(error) => return Err(vault_failure(error)),
        }
    }
    Err(vault_failure(VaultError::BadPassword))
}

/// Gives a vault's error its exit code and first line.
pub(super) fn vault_failure(error: VaultError) -> Failure {
    let (code, message) = match &error {
        VaultError::BadPassword | VaultError::NoSlot { .. } => {
            (Code::WrongSecret, "try again: that is not a password, code or key file of this vault")
        }
        VaultError::UnknownSlot { .. } => {
            (Code::NotFound, "look at key list: there is no such slot")
        }
        VaultError::LastSlot | VaultError::TooManySlots | VaultError::WrongKind { .. } => {
            (Code::Usage, "change the keys in another order")
        }
        VaultError::KdfTooWeak(_) => {
            (Code::Configuration, "raise encryption.argon2_* in the configuration")
        }
        VaultError::VaultMismatch { .. } | VaultError::Rollback { .. } => {
            (Code::VaultMismatch, "make sure that this is the right store: it shows another state")
        }
        VaultError::OutOfMemory(_) => (Code::Other, "free some memory and try again"),
        VaultError::VersionTooNew { .. } => (Code::Other, "update tgcryptfs"),
        VaultError::NotAVault
        | VaultError::KdfOutOfBounds(_)
        | VaultError::Corrupt(_)
        | VaultError::Tampered => {
            (Code::Corrupt, "restore the vault header from a copy: it cannot be used")
        }
    };
    Failure::because(code, message, error)
}

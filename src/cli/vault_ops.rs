//! What the command line does with the vault header: looking whether there is a
//! vault, and its key slots.

use super::context::Context;
use super::exit::{Code, Failure, OrFail};
use super::password::Secret;
use super::pending::vault::{self, ops};
use super::session::{self, Create, Store};
use anyhow::Result;
use std::future::Future;
use zeroize::Zeroizing;

/// A key slot, for people.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) id: [u8; 8],
    pub(super) kind: &'static str,
    pub(super) created_s: u64,
}

impl From<ops::SlotInfo> for Slot {
    fn from(info: ops::SlotInfo) -> Self {
        Self { id: info.id, kind: info.kind, created_s: info.created_s }
    }
}

/// Whether the store holds a vault.
pub(super) fn exists(store: &Store) -> Result<bool> {
    run(ops::exists(store))
}

/// Checks a secret against the vault and gives the vault's id.
pub(super) fn unlock(store: &Store, secret: &Secret) -> Result<String> {
    Ok(session::hex(&run(ops::unlock(store, &session::credential(secret)?))?))
}

/// The vault of the configured store together with the current secret, which every
/// change asks for.
pub(super) struct Unlocked<'a> {
    context: &'a Context,
    store: Store,
    current: vault::Credential,
}

impl<'a> Unlocked<'a> {
    /// Opens the store; the secret is checked by each operation.
    pub(super) fn new(context: &'a Context, secret: &Secret) -> Result<Self> {
        let store = session::open_store(context, Create::No)?;
        if !exists(&store)? {
            let message = "make a vault first: tgcryptfs init (the store holds none)";
            return Err(Failure::new(Code::NotFound, message).into());
        }
        Ok(Self { context, store, current: session::credential(secret)? })
    }

    /// Every key slot.
    pub(super) fn list(&self) -> Result<Vec<Slot>> {
        Ok(run(ops::list(&self.store, &self.current))?.into_iter().map(Slot::from).collect())
    }

    /// Adds a slot for another secret.
    pub(super) fn add(&self, new: &Secret) -> Result<Slot> {
        let new = session::credential(new)?;
        let kdf = session::kdf(&self.context.loaded.config);
        Ok(run(ops::add(&self.store, &self.current, &new, kdf, &self.context.env))?.into())
    }

    /// Removes a slot.
    pub(super) fn remove(&self, id: [u8; 8]) -> Result<()> {
        run(ops::remove(&self.store, &self.current, id, &self.context.env))
    }

    /// Replaces the passphrase.
    pub(super) fn change_passphrase(&self, new: &Secret) -> Result<()> {
        let new = session::credential(new)?;
        let kdf = session::kdf(&self.context.loaded.config);
        run(ops::change_passphrase(&self.store, &self.current, &new, kdf, &self.context.env))
    }

    /// Makes a new recovery code; the old one stops working.
    pub(super) fn rotate_recovery(&self) -> Result<Zeroizing<String>> {
        let code = run(ops::rotate_recovery(&self.store, &self.current, &self.context.env))?;
        Ok(Zeroizing::new(code.to_string()))
    }
}

/// MERGE: map the vault's kinds: wrong credential → `WrongSecret`, no vault or slot →
/// `NotFound`, store → `StoreUnreachable`, damaged header → `Corrupt`.
fn run<T>(operation: impl Future<Output = Result<T, vault::Error>>) -> Result<T> {
    let outcome = session::runtime()?.block_on(operation);
    Ok(outcome.or_fail(Code::Other, "the vault could not be read or changed")?)
}

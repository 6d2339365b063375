//! The vault header and the chain of membership records, as they lie in a store.

use super::{Error, Result};
use crate::crypto::kdf::Argon2Params;
use crate::crypto::{MasterKey, names};
use crate::data::blocks::Keyring;
use crate::env::Env;
use crate::ids::{Hlc, VaultId};
use crate::log::object_name;
use crate::store::{self, BlobStore, ObjectName, PutMode, PutOutcome};
use crate::vault::membership::{Level, MembershipError, NewNamespace, Role};
use crate::vault::{
    self, Credential, Member, MembershipRecord, RecoveryCode, VaultError, VaultHeader, membership,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::identity::{Identity, load_pin, save_pin};

/// The namespace that a vault starts with.
const FIRST_NAMESPACE: u32 = 0;

/// What decides about a new vault.
#[derive(Clone, Debug)]
pub struct Creation {
    /// Bytes of a block: a power of two, 64 KiB to 4 MiB.
    pub block_size: u32,
    /// What other machines call this one, at most 64 bytes.
    pub label: String,
}

/// What can be told about a vault.
#[derive(Clone, Copy, Debug)]
pub struct VaultInfo {
    /// Its id.
    pub vault_id: VaultId,
}

/// Makes a vault with one namespace in a store that holds none.
///
/// The header comes last: with it the vault is there, and whole.
pub async fn create_vault(
    store: Arc<dyn BlobStore>,
    credential: &Credential,
    kdf: Argon2Params,
    creation: Creation,
    state_dir: &Path,
    env: &Env,
) -> Result<(VaultInfo, RecoveryCode)> {
    if newest_header(&*store).await?.is_some() {
        return Err(Error::VaultExists { store: store.location() });
    }
    // What is known of another vault may be all that is left of somebody's changes.
    if load_pin(state_dir)?.is_some() {
        let state_dir = state_dir.to_owned();
        return Err(Error::VaultGone { store: store.location(), state_dir });
    }
    let code = RecoveryCode::generate(env);
    let recovery = Credential::Recovery(code);
    let (header, master) = vault::create(env, &[credential, &recovery], kdf)?;
    let identity = Identity::generate(env);
    let mut label = creation.label;
    while label.len() > 64 {
        label.pop();
    }
    let new = NewNamespace {
        index: FIRST_NAMESPACE,
        name: "default".to_owned(),
        block_size: creation.block_size,
        vault_generation: header.generation(),
        created: Hlc::default().next(env.now()).0,
        first_member: member_of(&identity, 1, label),
    };
    let (object, record) = MembershipRecord::create(env, &master, new)?;
    let name = membership_name(&master, &record, 0);
    put_new(&*store, &name, object).await?;
    identity.save(state_dir, &master, env)?;
    put_new(&*store, &ObjectName::vault(header.generation()), header.encode()).await?;
    save_pin(state_dir, &vault::Pin::of(&header))?;
    let Credential::Recovery(code) = recovery else {
        return Err(Error::VaultExists { store: store.location() });
    };
    Ok((VaultInfo { vault_id: header.vault() }, code))
}

fn member_of(identity: &Identity, slot: u16, label: String) -> Member {
    Member {
        machine: identity.machine,
        slot,
        role: Role::Admin,
        level: Level::Owner,
        signing_key: *identity.signing.public(),
        box_key: identity.box_key(),
        label,
    }
}

async fn put_new(store: &dyn BlobStore, name: &ObjectName, object: Vec<u8>) -> Result<()> {
    match store.put(name, object.into(), PutMode::CreateIfAbsent).await? {
        PutOutcome::Created => Ok(()),
        PutOutcome::AlreadyThere => Err(Error::Raced { name: name.to_string() }),
    }
}

/// The newest vault header in a store.
pub async fn newest_header(store: &dyn BlobStore) -> Result<Option<VaultHeader>> {
    let listed = store.list("vault.").await?;
    let newest = listed.iter().filter_map(|object| object.name.vault_generation()).max();
    let Some(generation) = newest else { return Ok(None) };
    let len_max = vault::header::HEADER_LEN_MAX as u64;
    let bytes = store.get(&ObjectName::vault(generation), Some(0..len_max + 1)).await?;
    Ok(Some(VaultHeader::parse(&bytes)?))
}

/// Finds the master key with a credential, trying each slot of its kind.
pub fn unlock(header: &VaultHeader, credential: &Credential) -> Result<MasterKey> {
    let kind = credential.kind();
    let slots: Vec<_> = header.slots().filter(|slot| slot.kind == kind).collect();
    if slots.is_empty() {
        return Err(VaultError::NoSlot { kind }.into());
    }
    for slot in slots {
        match vault::unlock(header, credential, Some(slot.id)) {
            Err(VaultError::BadPassword) => {}
            other => return Ok(other?),
        }
    }
    Err(VaultError::BadPassword.into())
}

/// The verified chain of one namespace.
#[derive(Debug)]
pub(super) struct Chain {
    /// Every record, from 0.
    pub(super) records: Vec<MembershipRecord>,
}

fn membership_name(master: &MasterKey, record: &MembershipRecord, n: u64) -> ObjectName {
    let ns = record.namespace();
    object_name(&names::membership(&master.membership_name_key(ns), ns, n))
}

impl Chain {
    /// Reads the chain to its end.
    pub(super) async fn load(store: &dyn BlobStore, master: &MasterKey) -> Result<Self> {
        let mut chain = Self { records: Vec::new() };
        chain.extend(store, master).await?;
        if chain.records.is_empty() {
            let rule = "record 0 is missing: the store has lost or withholds it";
            return Err(MembershipError::Rule { rule }.into());
        }
        Ok(chain)
    }

    /// Reads what was added to the chain since.
    pub(super) async fn extend(&mut self, store: &dyn BlobStore, master: &MasterKey) -> Result<()> {
        let ns = master.namespace_id(FIRST_NAMESPACE);
        let key = master.membership_name_key(ns);
        let len_max = membership::OBJECT_LEN_MAX as u64;
        loop {
            let n = self.records.len() as u64;
            let name = object_name(&names::membership(&key, ns, n));
            let object = match store.get(&name, Some(0..len_max + 1)).await {
                Err(error) if error.kind() == store::ErrorKind::NotFound => return Ok(()),
                other => other?,
            };
            let record = match self.records.last() {
                None => MembershipRecord::open_first(master, FIRST_NAMESPACE, &object),
                Some(last) => last.open_next(master, &object),
            };
            let name = name.to_string();
            self.records.push(record.map_err(|source| Error::MembershipObject { name, source })?);
        }
    }

    /// The newest record.
    pub(super) fn newest(&self) -> &MembershipRecord {
        self.records.last().expect("a chain has a record 0")
    }

    /// The record with this hash.
    pub(super) fn by_hash(&self, hash: &[u8; 32]) -> Option<&MembershipRecord> {
        self.records.iter().find(|record| record.hash() == hash)
    }

    /// Makes this machine a member, if it is not one.
    pub(super) async fn enrol(
        &mut self,
        store: &dyn BlobStore,
        (master, header): (&MasterKey, &VaultHeader),
        (identity, label): (&Identity, String),
        env: &Env,
    ) -> Result<()> {
        let newest = self.newest();
        if newest.member(identity.machine).is_some() {
            return Ok(());
        }
        let slots = self.records.iter().flat_map(|record| &record.body().members);
        let slot = slots.map(|member| member.slot).max().unwrap_or(0) + 1;
        let created = Hlc(newest.body().created).next(env.now()).0;
        let member = member_of(identity, slot, label);
        let (object, record) =
            newest.add_member(env, master, member, header.generation(), created)?;
        put_new(store, &membership_name(master, &record, record.n()), object).await?;
        self.records.push(record);
        Ok(())
    }

    /// The keys of every epoch.
    pub(super) fn keyring(&self) -> Keyring {
        let newest = self.newest();
        let epochs: BTreeMap<_, _> = self
            .records
            .iter()
            .map(|record| {
                let (ns, epoch) = (record.namespace(), record.epoch());
                (epoch, crate::crypto::EpochKeys::new(ns, epoch, record.epoch_secret()))
            })
            .collect();
        Keyring {
            namespace: newest.namespace(),
            fixed: crate::crypto::NamespaceKeys::copy_of(newest.namespace_keys()),
            epochs,
        }
    }
}

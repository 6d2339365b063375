//! The key hierarchy: `docs/FORMAT.md` §2.
//!
//! [`MasterKey`] belongs to the vault and its owner, [`EpochKeys`] to whoever may
//! read a namespace in one key epoch, [`NamespaceKeys`] to whoever may read it at
//! all. Derived keys that are used often are derived once and kept.

use super::context::ObjectType;
use super::ids::{BlockId, Epoch, MachineId, NamespaceId, VaultId};
use super::kdf::{derive, derive_public, extract};
use super::secret::{Key32, Secret};
use super::sign::SigningKey;
use crate::env::Env;

/// The root of all keys of a vault: 32 random bytes that key slots wrap.
#[derive(Debug)]
pub struct MasterKey {
    vault: VaultId,
    bytes: Key32,
    prk: Key32,
}

impl MasterKey {
    /// The master key of a new vault.
    #[must_use]
    pub fn random(env: &Env, vault: VaultId) -> Self {
        Self::new(vault, Key32::random(env))
    }

    /// The master key with these bytes.
    #[must_use]
    pub fn new(vault: VaultId, bytes: Key32) -> Self {
        let prk = extract(&vault.0, bytes.expose());
        Self { vault, bytes, prk }
    }

    /// The vault it belongs to.
    #[must_use]
    pub fn vault(&self) -> VaultId {
        self.vault
    }

    /// Its bytes, for a key slot to wrap.
    #[must_use]
    pub fn bytes(&self) -> &Key32 {
        &self.bytes
    }

    /// The key with which the owner signs membership records.
    #[must_use]
    pub fn owner_signing_key(&self) -> SigningKey {
        SigningKey::from_seed(derive(&self.prk, "owner-sign", &[]))
    }

    /// The owner's X25519 secret.
    #[must_use]
    pub fn owner_box_secret(&self) -> Key32 {
        derive(&self.prk, "owner-box", &[])
    }

    /// The key that authenticates the vault header.
    #[must_use]
    pub fn vault_mac_key(&self) -> Key32 {
        derive(&self.prk, "vault-mac", &[])
    }

    /// The key that seals what lies on a machine's disk.
    #[must_use]
    pub fn machine_key(&self, machine: MachineId) -> Key32 {
        derive(&self.prk, "machine", &[&machine.0])
    }

    /// The key with which a machine makes the file handles that it gives to NFS clients
    /// of a namespace.
    #[must_use]
    pub fn nfs_handle_key(&self, machine: MachineId, ns: NamespaceId) -> Key32 {
        derive(&self.prk, "nfs-handle", &[&machine.0, &ns.0])
    }

    /// The id of the vault's namespace number `index`.
    #[must_use]
    pub fn namespace_id(&self, index: u32) -> NamespaceId {
        NamespaceId(derive_public(&self.prk, "ns-id", &[&index.to_le_bytes()]))
    }

    /// The key that names the membership records of a namespace.
    #[must_use]
    pub fn membership_name_key(&self, ns: NamespaceId) -> Key32 {
        derive(&self.prk, "membership-name", &[&ns.0])
    }

    /// The key of the owner's wrap of an epoch secret.
    #[must_use]
    pub fn epoch_wrap_key(&self, ns: NamespaceId, epoch: Epoch) -> Key32 {
        derive(&self.prk, "es-wrap", &[&ns.0, &epoch.0.to_le_bytes()])
    }
}

/// The secret that members of a namespace share in one key epoch.
#[derive(Debug)]
pub struct EpochSecret(Key32);

impl EpochSecret {
    /// The secret of a new epoch.
    #[must_use]
    pub fn random(env: &Env) -> Self {
        Self(Key32::random(env))
    }

    /// The secret with these bytes.
    #[must_use]
    pub fn new(bytes: Key32) -> Self {
        Self(bytes)
    }

    /// The same secret again, for the next membership record.
    #[must_use]
    pub fn copy_of(other: &Self) -> Self {
        Self(Key32::copy_of(other.0.expose()))
    }

    /// Its bytes, for wrapping.
    #[must_use]
    pub fn key(&self) -> &Key32 {
        &self.0
    }
}

/// The keys of one namespace in one key epoch.
#[derive(Debug)]
pub struct EpochKeys {
    ns: NamespaceId,
    epoch: Epoch,
    meta: Key32,
    data: Key32,
    log: Key32,
    name: Key32,
}

impl EpochKeys {
    /// Derives them.
    #[must_use]
    pub fn new(ns: NamespaceId, epoch: Epoch, secret: &EpochSecret) -> Self {
        let salt = [&ns.0[..], &epoch.0.to_le_bytes()].concat();
        let prk = extract(&salt, secret.0.expose());
        Self {
            ns,
            epoch,
            meta: derive(&prk, "meta", &[]),
            data: derive(&prk, "data", &[]),
            log: derive(&prk, "log", &[]),
            name: derive(&prk, "name", &[]),
        }
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> NamespaceId {
        self.ns
    }

    /// The epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// K_meta.
    #[must_use]
    pub fn meta_key(&self) -> &Key32 {
        &self.meta
    }

    /// K_data, from which packs and blocks have their keys.
    #[must_use]
    pub fn data_key(&self) -> &Key32 {
        &self.data
    }

    /// K_log.
    #[must_use]
    pub fn log_key(&self) -> &Key32 {
        &self.log
    }

    /// K_name.
    #[must_use]
    pub fn name_key(&self) -> &Key32 {
        &self.name
    }

    /// The key for sealed objects of a type.
    #[must_use]
    pub fn sealing_key(&self, object: ObjectType) -> &Key32 {
        match object {
            ObjectType::Membership
            | ObjectType::OwnerWrap
            | ObjectType::PreviousSecret
            | ObjectType::Checkpoint => &self.meta,
            ObjectType::Segment | ObjectType::Head | ObjectType::Incarnation => &self.log,
            ObjectType::Pack | ObjectType::DataBlock | ObjectType::TreeNode => &self.data,
        }
    }

    /// The key of one block: the same key only ever seals the same plaintext.
    #[must_use]
    pub fn block_key(&self, id: &BlockId) -> Key32 {
        derive(&self.data, "block", &[&id.0])
    }
}

/// The keys of one namespace that stay the same for its life, so that the same
/// content always has the same id.
#[derive(Debug)]
pub struct NamespaceKeys {
    secret: Key32,
    block: Key32,
    tree: Key32,
    dentry: Key32,
    chunker: Key32,
}

impl NamespaceKeys {
    /// The keys of a new namespace.
    #[must_use]
    pub fn random(env: &Env) -> Self {
        Self::new(Key32::random(env))
    }

    /// The same keys again, for the next membership record.
    #[must_use]
    pub fn copy_of(other: &Self) -> Self {
        Self::new(Key32::copy_of(other.secret.expose()))
    }

    /// Derives the keys from the namespace's secret (NSK).
    #[must_use]
    pub fn new(secret: Key32) -> Self {
        let derived =
            |context: &str| Secret::take(&mut blake3::derive_key(context, secret.expose()));
        Self {
            block: derived("tgcryptfs/v1/block id"),
            tree: derived("tgcryptfs/v1/tree id"),
            dentry: derived("tgcryptfs/v1/dentry"),
            chunker: derived("tgcryptfs/v1/chunker"),
            secret,
        }
    }

    /// NSK itself, for the membership record.
    #[must_use]
    pub fn secret(&self) -> &Key32 {
        &self.secret
    }

    /// K_tid, which also decides where tree nodes end.
    #[must_use]
    pub fn tree_key(&self) -> &Key32 {
        &self.tree
    }

    /// K_dent, which hides names in the local database.
    #[must_use]
    pub fn dentry_key(&self) -> &Key32 {
        &self.dentry
    }

    /// K_cdc, for content-defined chunking.
    #[must_use]
    pub fn chunker_key(&self) -> &Key32 {
        &self.chunker
    }

    /// The id of a data block.
    #[must_use]
    pub fn block_id(&self, plaintext: &[u8]) -> BlockId {
        BlockId(*blake3::keyed_hash(self.block.expose(), plaintext).as_bytes())
    }

    /// The id of a tree node.
    #[must_use]
    pub fn tree_id(&self, plaintext: &[u8]) -> BlockId {
        BlockId(*blake3::keyed_hash(self.tree.expose(), plaintext).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_different_purposes_differ() {
        let env = Env::simulated(1).0;
        let master = MasterKey::random(&env, VaultId([1; 16]));
        let (ns, other) = (master.namespace_id(0), master.namespace_id(1));
        assert_ne!(ns, other);
        let secret = EpochSecret::random(&env);
        let epoch = EpochKeys::new(ns, Epoch(0), &secret);
        let later = EpochKeys::new(ns, Epoch(1), &secret);
        let names = NamespaceKeys::random(&env);
        let keys = [
            &master.owner_box_secret(),
            &master.vault_mac_key(),
            &master.machine_key(MachineId([1; 16])),
            &master.machine_key(MachineId([2; 16])),
            &master.nfs_handle_key(MachineId([1; 16]), ns),
            &master.nfs_handle_key(MachineId([1; 16]), other),
            &master.nfs_handle_key(MachineId([2; 16]), ns),
            &master.membership_name_key(ns),
            &master.membership_name_key(other),
            &master.epoch_wrap_key(ns, Epoch(0)),
            &master.epoch_wrap_key(ns, Epoch(1)),
            epoch.meta_key(),
            epoch.data_key(),
            epoch.log_key(),
            epoch.name_key(),
            later.meta_key(),
            later.data_key(),
            names.tree_key(),
            names.dentry_key(),
            names.chunker_key(),
            &epoch.block_key(&BlockId([1; 32])),
            &epoch.block_key(&BlockId([2; 32])),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(keys[..index].iter().all(|earlier| !earlier.is_equal(key)), "key {index}");
        }
    }

    #[test]
    fn the_master_key_means_nothing_in_another_vault() {
        let bytes = || Key32::copy_of(&[1; 32]);
        let one = MasterKey::new(VaultId([1; 16]), bytes());
        let two = MasterKey::new(VaultId([2; 16]), bytes());
        assert_ne!(one.namespace_id(0), two.namespace_id(0));
        assert!(!one.vault_mac_key().is_equal(&two.vault_mac_key()));
    }

    #[test]
    fn block_and_tree_ids_differ_for_the_same_bytes() {
        let keys = NamespaceKeys::new(Key32::copy_of(&[1; 32]));
        assert_ne!(keys.block_id(b"x"), keys.tree_id(b"x"));
        let others = NamespaceKeys::new(Key32::copy_of(&[2; 32]));
        assert_ne!(keys.block_id(b"x"), others.block_id(b"x"));
    }
}

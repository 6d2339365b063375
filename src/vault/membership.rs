//! Membership records: `docs/FORMAT.md` §8.
//!
//! The records of a namespace form one chain that only the owner can continue.
//! A record says who takes part, carries the secrets of its key epoch and of the
//! namespace, and names the record before it by hash. [`MembershipRecord::open_first`]
//! and [`MembershipRecord::open_next`] accept a record only with all of that
//! checked, so whoever holds one holds a verified chain.

mod body;
mod object;
#[cfg(test)]
mod tests;

pub use body::{Body, Cutoff, Level, Member, PREVIOUS_SECRET_LEN, Role};

use crate::codec::DecodeError;
use crate::crypto::envelope::TooLong;
use crate::crypto::sign::BadSignature;
use crate::crypto::{
    Corrupt, Epoch, EpochKeys, EpochSecret, MasterKey, NamespaceId, NamespaceKeys,
};
use crate::env::Env;
use object::Fresh;

/// Bytes of a record's object at most; nobody needs to fetch more.
pub const OBJECT_LEN_MAX: usize = object::LEN_MAX;

/// Why a membership record is not accepted or cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// The object is not what was sealed.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// Its content does not follow the format.
    #[error("the membership record is damaged: {0}")]
    Decode(#[from] DecodeError),
    /// It is not the owner's.
    #[error("the membership record is not signed by the vault's owner")]
    Unauthorised(#[from] BadSignature),
    /// A newer program made it.
    #[error(
        "the namespace needs format version {version}, this program knows version 1: update it"
    )]
    VersionTooNew {
        /// The version it needs.
        version: u8,
    },
    /// It does not continue the chain, or contradicts itself.
    #[error("the membership record is not acceptable: {rule}")]
    Rule {
        /// The rule it breaks.
        rule: &'static str,
    },
    /// It would be longer than a record may be.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

/// A verified record, with the keys it carries.
#[derive(Debug)]
pub struct MembershipRecord {
    ns: NamespaceId,
    n: u64,
    epoch: Epoch,
    hash: [u8; 32],
    body: Body,
    secret: EpochSecret,
    keys: EpochKeys,
    namespace_keys: NamespaceKeys,
}

/// What decides about a new namespace.
#[derive(Clone, Debug)]
pub struct NewNamespace {
    /// Its number in the vault.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Bytes of a block of file data.
    pub block_size: u32,
    /// The vault header's generation; older ones are out of date from now on.
    pub vault_generation: u64,
    /// When, as a hybrid logical clock.
    pub created: u64,
    /// The machine that makes it.
    pub first_member: Member,
}

impl MembershipRecord {
    /// Makes a namespace: its secrets and record 0. Answers the object to store.
    ///
    /// # Errors
    ///
    /// [`MembershipError`] if a value is outside the format's bounds.
    pub fn create(
        env: &Env,
        master: &MasterKey,
        new: NewNamespace,
    ) -> Result<(Vec<u8>, Self), MembershipError> {
        let body = Body {
            prev_hash: [0; 32],
            ns_index: new.index,
            name: new.name,
            block_size: new.block_size,
            format_min: body::FORMAT_VERSION,
            vault_generation_min: new.vault_generation,
            created: new.created,
            previous_secret: None,
            members: vec![new.first_member],
            cutoffs: vec![],
        };
        let draft = Draft {
            ns: master.namespace_id(new.index),
            n: 0,
            epoch: Epoch(0),
            body,
            secret: EpochSecret::random(env),
            namespace_keys: NamespaceKeys::random(env),
        };
        let fresh = Fresh::new(env, draft.wrap_steps());
        draft.seal(&fresh, master)
    }

    /// Makes the next record, which adds a member. The key epoch stays: whoever
    /// joins may read what was written before.
    ///
    /// # Errors
    ///
    /// [`MembershipError`] if the member's machine or slot is taken, or there are
    /// too many members.
    pub fn add_member(
        &self,
        env: &Env,
        master: &MasterKey,
        member: Member,
        vault_generation: u64,
        created: u64,
    ) -> Result<(Vec<u8>, Self), MembershipError> {
        let mut body = self.body.clone();
        body.prev_hash = self.hash;
        body.created = created;
        body.vault_generation_min = body.vault_generation_min.max(vault_generation);
        body.previous_secret = None;
        body.members.push(member);
        let draft = Draft {
            ns: self.ns,
            n: self.n + 1,
            epoch: self.epoch,
            body,
            secret: EpochSecret::copy_of(&self.secret),
            namespace_keys: NamespaceKeys::copy_of(&self.namespace_keys),
        };
        let fresh = Fresh::new(env, draft.wrap_steps());
        let (object, record) = draft.seal(&fresh, master)?;
        record.check_follows(self)?;
        Ok((object, record))
    }

    /// Opens and verifies record 0 of namespace `index`.
    ///
    /// # Errors
    ///
    /// [`MembershipError`] if it is not the owner's record 0.
    pub fn open_first(
        master: &MasterKey,
        index: u32,
        object: &[u8],
    ) -> Result<Self, MembershipError> {
        let ns = master.namespace_id(index);
        let record = object::open(master, ns, 0, [Epoch(0)], object)?;
        rule(record.body.prev_hash == [0; 32], "record 0 has no record before it")?;
        rule(record.body.ns_index == index, "the number is the namespace's")?;
        rule(record.body.previous_secret.is_none(), "epoch 0 has no epoch before it")?;
        Ok(record)
    }

    /// Opens and verifies the record behind this one.
    ///
    /// # Errors
    ///
    /// [`MembershipError`] if it is not the owner's continuation of this chain.
    pub fn open_next(&self, master: &MasterKey, object: &[u8]) -> Result<Self, MembershipError> {
        let next_epoch = Epoch(self.epoch.0.saturating_add(1));
        let epochs = [next_epoch, self.epoch];
        let record = object::open(master, self.ns, self.n + 1, epochs, object)?;
        record.check_follows(self)?;
        Ok(record)
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> NamespaceId {
        self.ns
    }

    /// Its place in the chain, from 0.
    #[must_use]
    pub fn n(&self) -> u64 {
        self.n
    }

    /// The key epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The hash that the next record, and what machines sign, names it by.
    #[must_use]
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// Everything it says.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The member with that machine id.
    #[must_use]
    pub fn member(&self, machine: crate::crypto::MachineId) -> Option<&Member> {
        self.body.members.iter().find(|member| member.machine == machine)
    }

    /// The keys of its epoch.
    #[must_use]
    pub fn epoch_keys(&self) -> &EpochKeys {
        &self.keys
    }

    /// The secret of its epoch, for wrapping.
    #[must_use]
    pub fn epoch_secret(&self) -> &EpochSecret {
        &self.secret
    }

    /// The namespace's lasting keys.
    #[must_use]
    pub fn namespace_keys(&self) -> &NamespaceKeys {
        &self.namespace_keys
    }

    /// Checks everything that a record and the one before it must agree on.
    fn check_follows(&self, previous: &Self) -> Result<(), MembershipError> {
        let (body, earlier) = (&self.body, &previous.body);
        rule(body.prev_hash == previous.hash, "it continues another chain")?;
        let is_same_life = body.ns_index == earlier.ns_index
            && body.block_size == earlier.block_size
            && self.namespace_keys.secret().is_equal(previous.namespace_keys.secret());
        rule(is_same_life, "number, secret and block size of a namespace never change")?;
        let is_newer = body.format_min >= earlier.format_min
            && body.vault_generation_min >= earlier.vault_generation_min;
        rule(is_newer, "required versions never fall")?;
        self.check_epoch(previous)?;
        body.check_follows(earlier)
    }

    /// The epoch stays with its secret, or rises by one and hands the old secret on.
    fn check_epoch(&self, previous: &Self) -> Result<(), MembershipError> {
        if self.epoch == previous.epoch {
            rule(self.body.previous_secret.is_none(), "the epoch did not rise")?;
            return rule(
                self.secret.key().is_equal(previous.secret.key()),
                "an epoch has one secret",
            );
        }
        let sealed = self.body.previous_secret.as_ref();
        let sealed =
            sealed.ok_or(MembershipError::Rule { rule: "the epoch's predecessor is missing" })?;
        let handed_on = object::open_previous(&self.keys, previous.epoch, sealed)?;
        rule(handed_on.key().is_equal(previous.secret.key()), "an epoch has one secret")
    }
}

fn rule(holds: bool, rule: &'static str) -> Result<(), MembershipError> {
    if holds { Ok(()) } else { Err(MembershipError::Rule { rule }) }
}

/// A record that is not sealed yet.
struct Draft {
    ns: NamespaceId,
    n: u64,
    epoch: Epoch,
    body: Body,
    secret: EpochSecret,
    namespace_keys: NamespaceKeys,
}

impl Draft {
    /// 16 places each; at least one step, so that a lone machine looks like many.
    fn wrap_steps(&self) -> u16 {
        let steps = self.body.members.len().div_ceil(object::PLACES_PER_STEP).max(1);
        u16::try_from(steps).unwrap_or(u16::MAX)
    }

    fn seal(
        self,
        fresh: &Fresh,
        master: &MasterKey,
    ) -> Result<(Vec<u8>, MembershipRecord), MembershipError> {
        self.body.check()?;
        let keys = EpochKeys::new(self.ns, self.epoch, &self.secret);
        let (object, hash) = object::seal(fresh, master, &self, &keys)?;
        let Self { ns, n, epoch, body, secret, namespace_keys } = self;
        let record = MembershipRecord { ns, n, epoch, hash, body, secret, keys, namespace_keys };
        Ok((object, record))
    }
}

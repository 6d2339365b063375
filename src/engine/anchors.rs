//! What this machine has seen of a namespace, kept beside the database so that a
//! store that shows less, or something else, is refused even when the database
//! is gone (`docs/SECURITY.md`).

use super::identity::{Identity, read_if_there, write_durably};
use super::membership::Chain;
use super::{Error, Result};
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::aead::AeadKey;
use crate::crypto::{Key32, MasterKey};
use crate::env::Env;
use crate::ids::{Hash, Incarnation, MachineId, NamespaceId};
use crate::log::segment::Dep;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"TGCFSANC";
const VERSION: u8 = 1;
/// Most logs remembered; one machine adds one a life.
const LOGS_MAX: usize = 1 << 16;

/// What was seen; nothing older is accepted again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anchors {
    /// The newest membership record.
    pub membership: (u64, Hash),
    /// The end of every log, as read or, for the own, as the store confirmed it.
    pub logs: Vec<Dep>,
}

impl Anchors {
    /// What is sealed into the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u64(self.membership.0).raw(&self.membership.1.0);
        w.list(&self.logs, |w, end| end.encode(w));
        w.into_vec()
    }

    /// Reads it.
    pub fn decode(bytes: &[u8]) -> std::result::Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let membership = (r.u64("membership number")?, Hash(r.array("membership hash")?));
        let logs = r.list("logs", LOGS_MAX, 64, Dep::decode)?;
        r.finish("anchors")?;
        Ok(Self { membership, logs })
    }

    /// The bytes of the file: sealed for one machine in one namespace.
    #[must_use]
    pub fn seal(&self, key: &Key32, place: (MachineId, NamespaceId), env: &Env) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], &[VERSION]].concat();
        let (nonce, plain) = (env.random_array(), self.encode());
        AeadKey::new(key).seal_onto(&nonce, &aad(place), &plain, &mut bytes);
        bytes
    }

    /// Reads what [`Self::seal`] made for the same place.
    pub fn open(
        key: &Key32,
        place: (MachineId, NamespaceId),
        bytes: &[u8],
    ) -> std::result::Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let is_ours = r.array::<8>("magic")? == *MAGIC && r.u8("version")? == VERSION;
        let sealed = if is_ours { r.rest() } else { &[] };
        let plain = AeadKey::new(key).open_copy(&aad(place), sealed);
        Self::decode(&plain.unwrap_or_default())
    }

    /// The end of one log.
    pub(super) fn of(&self, machine: MachineId, incarnation: Incarnation) -> Option<&Dep> {
        self.logs.iter().find(|end| (end.machine, end.incarnation) == (machine, incarnation))
    }

    /// Takes in the end of a log that is at least as new as what is known of it.
    pub(super) fn raise(&mut self, end: Dep) {
        let known = self
            .logs
            .iter_mut()
            .find(|known| (known.machine, known.incarnation) == (end.machine, end.incarnation));
        match known {
            Some(known) if known.seq < end.seq => *known = end,
            Some(_) => {}
            None => self.logs.push(end),
        }
    }

    /// Checks that the membership chain still holds what it held.
    pub(super) fn check_chain(&self, chain: &Chain) -> Result<()> {
        let (n, hash) = self.membership;
        let is_there = usize::try_from(n)
            .ok()
            .and_then(|n| chain.records.get(n))
            .is_some_and(|record| *record.hash() == hash.0);
        if is_there { Ok(()) } else { Err(Error::MembershipRollback { n }) }
    }
}

fn aad((machine, namespace): (MachineId, NamespaceId)) -> Vec<u8> {
    [&b"tgcryptfs/v1/anchors"[..], &machine.0, &namespace.0].concat()
}

/// The anchors on the local disk.
#[derive(Debug)]
pub(super) struct AnchorFile {
    path: PathBuf,
    key: Key32,
    place: (MachineId, NamespaceId),
    env: Env,
    /// What the file says; `None` if there is no file.
    pub(super) saved: Option<Anchors>,
}

impl AnchorFile {
    /// Reads the file, if there is one.
    pub(super) fn open(
        state_dir: &Path,
        master: &MasterKey,
        identity: &Identity,
        namespace: NamespaceId,
        env: &Env,
    ) -> Result<Self> {
        let mut file = Self {
            path: state_dir.join("anchors"),
            key: master.machine_key(identity.machine),
            place: (identity.machine, namespace),
            env: env.clone(),
            saved: None,
        };
        if let Some(bytes) = read_if_there(&file.path)? {
            let opened = Anchors::open(&file.key, file.place, &bytes);
            file.saved = Some(opened.map_err(|_| Error::Anchors { path: file.path.clone() })?);
        }
        Ok(file)
    }

    /// Replaces the file; what it says is on stable storage afterwards.
    pub(super) fn save(&mut self, anchors: Anchors) -> Result<()> {
        if self.saved.as_ref() == Some(&anchors) {
            return Ok(());
        }
        write_durably(&self.path, &anchors.seal(&self.key, self.place, &self.env))?;
        self.saved = Some(anchors);
        Ok(())
    }
}

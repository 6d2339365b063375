//! Segments: signed, hash-linked runs of ops, one log per machine
//! (`docs/FORMAT.md` §9).
//!
//! The bytes that were signed are kept as they came: parsing happens after the
//! signature held, and the hash that links the log is over those very bytes.

use super::op::Group;
use crate::codec::{DecodeError, Reader, Result, Writer};
use crate::ids::{Hash, Hlc, Incarnation, MachineId, NamespaceId};

/// Most plaintext in one segment, bytes.
pub const PLAIN_LEN_MAX: usize = 256 * 1024;
/// Most dependencies of one segment.
pub const DEPS_MAX: usize = 256;
/// Bytes of groups a writer puts into one segment: leaves room for the rest of it.
pub const GROUPS_LEN_MAX: usize = PLAIN_LEN_MAX - 32 * 1024;

const FLAG_ENDS_BATCH: u8 = 1;

/// The end of some machine's log, as its author had seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dep {
    /// Whose log.
    pub machine: MachineId,
    /// Which life.
    pub incarnation: Incarnation,
    /// The last segment seen.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Dep {
    /// Appends the encoding.
    pub fn encode(&self, w: &mut Writer) {
        w.raw(&self.machine.0).raw(&self.incarnation.0).u64(self.seq).raw(&self.hash.0);
    }

    /// Reads one.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            machine: MachineId(r.array("machine")?),
            incarnation: Incarnation(r.array("incarnation")?),
            seq: r.u64("seq")?,
            hash: Hash(r.array("hash")?),
        })
    }
}

/// What a segment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The namespace.
    pub namespace: NamespaceId,
    /// The key epoch it is sealed under.
    pub epoch: u32,
    /// The membership record its author went by.
    pub membership: Hash,
    /// The author.
    pub machine: MachineId,
    /// The author's life.
    pub incarnation: Incarnation,
    /// Its place in that life's log, from 0.
    pub seq: u64,
    /// The hash of the segment before; zero for the first.
    pub previous: Hash,
    /// Whether everything up to here takes effect together.
    pub ends_batch: bool,
    /// What its author had seen of other logs.
    pub deps: Vec<Dep>,
    /// The ops.
    pub groups: Vec<Group>,
}

impl Segment {
    /// The bytes to sign.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(&self.namespace.0).u32(self.epoch).raw(&self.membership.0);
        w.raw(&self.machine.0).raw(&self.incarnation.0).u64(self.seq).raw(&self.previous.0);
        w.u8(if self.ends_batch { FLAG_ENDS_BATCH } else { 0 });
        w.list(&self.deps, |w, dep| dep.encode(w));
        let first = self.groups.first().map_or(Hlc(0), |group| group.hlc);
        let last = self.groups.last().map_or(Hlc(0), |group| group.hlc);
        w.u64(first.0).u64(last.0);
        w.list(&self.groups, |w, group| group.encode(w));
        w.into_vec()
    }

    /// Parses bytes whose signature held.
    pub fn decode(bytes: &[u8]) -> std::result::Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let namespace = NamespaceId(r.array("namespace")?);
        let epoch = r.u32("epoch")?;
        let membership = Hash(r.array("membership hash")?);
        let machine = MachineId(r.array("machine")?);
        let incarnation = Incarnation(r.array("incarnation")?);
        let seq = r.u64("seq")?;
        let previous = Hash(r.array("previous hash")?);
        let ends_batch = r.code("flags", |flags| match flags {
            0 => Some(false),
            FLAG_ENDS_BATCH => Some(true),
            _ => None,
        })?;
        let deps = r.list("deps", DEPS_MAX, 64, Dep::decode)?;
        let (first, last) = (r.u64("first hlc")?, r.u64("last hlc")?);
        let at = r.offset();
        let groups = r.list("groups", PLAIN_LEN_MAX, 12, Group::decode)?;
        let times = (
            groups.first().map_or(0, |group| group.hlc.0),
            groups.last().map_or(0, |group| group.hlc.0),
        );
        if times != (first, last) || !groups.is_sorted_by_key(|group| group.hlc) {
            let rule = "groups are in the order of their times, within those stated";
            return Err(r.error_at(at, "groups", crate::codec::Problem::Invalid { rule }));
        }
        r.finish("segment")?;
        Ok(Self {
            namespace,
            epoch,
            membership,
            machine,
            incarnation,
            seq,
            previous,
            ends_batch,
            deps,
            groups,
        })
    }
}

//! The small signed records beside the log: incarnations, heads and checkpoint
//! records (`docs/FORMAT.md` §9, §10).

use super::segment::Dep;
use crate::codec::{DecodeError, Reader, Result, Writer};
use crate::ids::{BlockId, Hash, Hlc, Incarnation, MachineId, NamespaceId, PackId};

/// Most packs one checkpoint may lie in.
pub const CHECKPOINT_PACKS_MAX: usize = 64;

/// Most logs that a checkpoint may cover.
pub const CUT_MAX: usize = 3072;

/// Announces one life of a machine's local state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncarnationRecord {
    /// The namespace.
    pub namespace: NamespaceId,
    /// The machine.
    pub machine: MachineId,
    /// How many lives it had before.
    pub index: u32,
    /// This life's id.
    pub incarnation: Incarnation,
    /// When it began.
    pub hlc: Hlc,
    /// The membership record it went by.
    pub membership: Hash,
}

impl IncarnationRecord {
    /// The bytes to sign.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(&self.namespace.0).raw(&self.machine.0).u32(self.index).raw(&self.incarnation.0);
        w.u64(self.hlc.0).raw(&self.membership.0);
        w.into_vec()
    }

    /// Parses bytes whose signature held.
    pub fn decode(bytes: &[u8]) -> std::result::Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let record = Self {
            namespace: NamespaceId(r.array("namespace")?),
            machine: MachineId(r.array("machine")?),
            index: r.u32("index")?,
            incarnation: Incarnation(r.array("incarnation")?),
            hlc: Hlc(r.u64("hlc")?),
            membership: Hash(r.array("membership hash")?),
        };
        r.finish("incarnation record")?;
        Ok(record)
    }
}

/// Names a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointRef {
    /// Who wrote it.
    pub machine: MachineId,
    /// Which of theirs.
    pub number: u64,
    /// Its root.
    pub root: BlockId,
}

impl CheckpointRef {
    /// Appends the encoding.
    pub fn encode(&self, w: &mut Writer) {
        w.raw(&self.machine.0).u64(self.number).raw(&self.root.0);
    }

    /// Reads one.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            machine: MachineId(r.array("machine")?),
            number: r.u64("number")?,
            root: BlockId(r.array("root")?),
        })
    }
}

/// Where a machine's log ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The namespace.
    pub namespace: NamespaceId,
    /// The machine.
    pub machine: MachineId,
    /// Rises with every head of this machine.
    pub counter: u64,
    /// Its current life.
    pub incarnation: Incarnation,
    /// The number of its next segment.
    pub next_seq: u64,
    /// The hash of its last segment; zero if there is none.
    pub last: Hash,
    /// When.
    pub hlc: Hlc,
    /// Its newest checkpoint.
    pub checkpoint: Option<CheckpointRef>,
}

impl Head {
    /// The bytes to sign.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(&self.namespace.0).raw(&self.machine.0).u64(self.counter);
        w.raw(&self.incarnation.0).u64(self.next_seq).raw(&self.last.0).u64(self.hlc.0);
        w.opt(self.checkpoint, |w, at| at.encode(w));
        w.into_vec()
    }

    /// Parses bytes whose signature held.
    pub fn decode(bytes: &[u8]) -> std::result::Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let head = Self {
            namespace: NamespaceId(r.array("namespace")?),
            machine: MachineId(r.array("machine")?),
            counter: r.u64("counter")?,
            incarnation: Incarnation(r.array("incarnation")?),
            next_seq: r.u64("next seq")?,
            last: Hash(r.array("last hash")?),
            hlc: Hlc(r.u64("hlc")?),
            checkpoint: r.opt("checkpoint", CheckpointRef::decode)?,
        };
        r.finish("head")?;
        Ok(head)
    }
}

/// A pack as a signed record or op announces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackInfo {
    /// Which pack.
    pub pack: PackId,
    /// Key epoch it is sealed under.
    pub epoch: u32,
    /// Length, bytes.
    pub size: u64,
    /// BLAKE3 of its directory as stored.
    pub dir_hash: Hash,
}

impl PackInfo {
    fn encode(&self, w: &mut Writer) {
        w.raw(&self.pack.0).u32(self.epoch).u64(self.size).raw(&self.dir_hash.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            pack: PackId(r.array("pack")?),
            epoch: r.u32("epoch")?,
            size: r.u64("size")?,
            dir_hash: Hash(r.array("directory hash")?),
        })
    }
}

/// Says what state a checkpoint tree is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointRecord {
    /// The namespace.
    pub namespace: NamespaceId,
    /// The author.
    pub machine: MachineId,
    /// Which of the author's, from 0.
    pub number: u64,
    /// The membership record the author went by.
    pub membership: Hash,
    /// The time of the newest op in it.
    pub hlc: Hlc,
    /// The root of the tree; equal states have equal roots.
    pub root: BlockId,
    /// The level of the root; 0 is a leaf.
    pub level: u8,
    /// Rows in the tree.
    pub rows: u64,
    /// What it covers of every log.
    pub cut: Vec<Dep>,
    /// Where its nodes are.
    pub packs: Vec<PackInfo>,
}

impl CheckpointRecord {
    /// The bytes to sign.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(&self.namespace.0).raw(&self.machine.0).u64(self.number).raw(&self.membership.0);
        w.u64(self.hlc.0).raw(&self.root.0).u8(self.level).u64(self.rows);
        w.list(&self.cut, |w, dep| dep.encode(w));
        w.list(&self.packs, |w, pack| pack.encode(w));
        w.into_vec()
    }

    /// Parses bytes whose signature held.
    pub fn decode(bytes: &[u8]) -> std::result::Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let record = Self {
            namespace: NamespaceId(r.array("namespace")?),
            machine: MachineId(r.array("machine")?),
            number: r.u64("number")?,
            membership: Hash(r.array("membership hash")?),
            hlc: Hlc(r.u64("hlc")?),
            root: BlockId(r.array("root")?),
            level: r.u8("level")?,
            rows: r.u64("rows")?,
            cut: r.list("cut", CUT_MAX, 64, Dep::decode)?,
            packs: r.list("packs", CHECKPOINT_PACKS_MAX, 60, PackInfo::decode)?,
        };
        r.finish("checkpoint record")?;
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{Vector, vectors};
    use serde_json::Value;

    fn pack(vector: &Value) -> PackInfo {
        PackInfo {
            pack: PackId(vector.array("pack_id")),
            epoch: vector.small("epoch"),
            size: vector.number("size"),
            dir_hash: Hash(vector.array("dir_hash")),
        }
    }

    fn dep(vector: &Value) -> Dep {
        Dep {
            machine: MachineId(vector.array("machine")),
            incarnation: Incarnation(vector.array("incarnation")),
            seq: vector.number("seq"),
            hash: Hash(vector.array("hash")),
        }
    }

    #[test]
    fn the_checkpoint_record_of_the_vectors() {
        let vector = &vectors()["checkpoint"];
        let record = CheckpointRecord {
            namespace: NamespaceId(vectors()["keys"].array("ns_id")),
            machine: MachineId(vector.array("machine")),
            number: vector.number("n"),
            membership: Hash(vector.array("membership_hash")),
            hlc: Hlc(vector.number("hlc")),
            root: BlockId(vector.array("root")),
            level: vector.number("level").try_into().unwrap(),
            rows: vector.number("rows"),
            cut: vector.items("cut").iter().map(dep).collect(),
            packs: vector.items("packs").iter().map(pack).collect(),
        };
        let body = vector.bytes("body");
        assert_eq!(record.encode(), body);
        assert_eq!(CheckpointRecord::decode(&body).unwrap(), record);
        for len in 0..body.len() {
            assert!(CheckpointRecord::decode(&body[..len]).is_err(), "cut to {len}");
        }
    }
}

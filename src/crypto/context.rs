//! What an object is and where it belongs, as the bytes that are bound into its
//! keys and its associated data (CTX in `docs/FORMAT.md` §5, PCTX and the aad of
//! blocks in §6).

use super::ids::{BlockId, Epoch, Incarnation, MachineId, NamespaceId, PackId};
use std::fmt;

/// `lp("tgcryptfs") ‖ u8 1`: opens every context.
const PREFIX: &[u8; 14] = b"\x09\0\0\0tgcryptfs\x01";

/// The types of objects and of their parts, with the codes of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ObjectType {
    /// A membership record.
    Membership = 0x02,
    /// The owner's wrap of an epoch secret.
    OwnerWrap = 0x05,
    /// The previous epoch's secret under the next epoch.
    PreviousSecret = 0x06,
    /// A pack of blocks.
    Pack = 0x10,
    /// A block of file data.
    DataBlock = 0x18,
    /// A segment of a machine's log.
    Segment = 0x20,
    /// The head of a machine's log.
    Head = 0x21,
    /// The record that opens an incarnation.
    Incarnation = 0x22,
    /// A node of a manifest or checkpoint tree.
    TreeNode = 0x30,
    /// A checkpoint record.
    Checkpoint = 0x31,
}

impl ObjectType {
    /// Its code in the format.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for ObjectType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Membership => "membership record",
            Self::OwnerWrap => "owner's epoch wrap",
            Self::PreviousSecret => "previous epoch secret",
            Self::Pack => "pack",
            Self::DataBlock => "data block",
            Self::Segment => "segment",
            Self::Head => "head",
            Self::Incarnation => "incarnation record",
            Self::TreeNode => "tree node",
            Self::Checkpoint => "checkpoint record",
        })
    }
}

/// What a sealed object is, and its place; everything of CTX but the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    object: ObjectType,
    ns: NamespaceId,
    fields: Vec<u8>,
}

impl Context {
    fn new(object: ObjectType, ns: NamespaceId, fields: &[&[u8]]) -> Self {
        Self { object, ns, fields: fields.concat() }
    }

    /// The body of membership record `n`.
    #[must_use]
    pub fn membership(ns: NamespaceId, n: u64) -> Self {
        Self::new(ObjectType::Membership, ns, &[&n.to_le_bytes()])
    }

    /// The owner's epoch wrap in the membership record with this salt.
    #[must_use]
    pub fn owner_wrap(ns: NamespaceId, record_salt: &[u8; 32]) -> Self {
        Self::new(ObjectType::OwnerWrap, ns, &[record_salt])
    }

    /// The secret of `previous`, sealed under the epoch behind it.
    #[must_use]
    pub fn previous_secret(ns: NamespaceId, previous: Epoch) -> Self {
        Self::new(ObjectType::PreviousSecret, ns, &[&previous.0.to_le_bytes()])
    }

    /// Segment `seq` of a machine's log.
    #[must_use]
    pub fn segment(
        ns: NamespaceId,
        machine: MachineId,
        incarnation: Incarnation,
        seq: u64,
    ) -> Self {
        let fields: [&[u8]; 3] = [&machine.0, &incarnation.0, &seq.to_le_bytes()];
        Self::new(ObjectType::Segment, ns, &fields)
    }

    /// Head `counter` of a machine's log.
    #[must_use]
    pub fn head(ns: NamespaceId, machine: MachineId, counter: u64) -> Self {
        Self::new(ObjectType::Head, ns, &[&machine.0, &counter.to_le_bytes()])
    }

    /// A machine's incarnation record `index`.
    #[must_use]
    pub fn incarnation(ns: NamespaceId, machine: MachineId, index: u32) -> Self {
        Self::new(ObjectType::Incarnation, ns, &[&machine.0, &index.to_le_bytes()])
    }

    /// A machine's checkpoint record `n`.
    #[must_use]
    pub fn checkpoint(ns: NamespaceId, machine: MachineId, n: u64) -> Self {
        Self::new(ObjectType::Checkpoint, ns, &[&machine.0, &n.to_le_bytes()])
    }

    /// What the object is.
    #[must_use]
    pub fn object(&self) -> ObjectType {
        self.object
    }

    /// The namespace it belongs to.
    #[must_use]
    pub fn namespace(&self) -> NamespaceId {
        self.ns
    }

    /// CTX in one epoch.
    #[must_use]
    pub fn bytes(&self, epoch: Epoch) -> Vec<u8> {
        [PREFIX, &[self.object.code()][..], &self.ns.0, &epoch.0.to_le_bytes(), &self.fields]
            .concat()
    }
}

/// PCTX: binds a pack's directory and trailer to the pack.
#[must_use]
pub fn pack_context(ns: NamespaceId, epoch: Epoch, pack: PackId) -> Vec<u8> {
    Context::new(ObjectType::Pack, ns, &[&pack.0]).bytes(epoch)
}

/// Bytes of a block's associated data.
const BLOCK_AAD_LEN: usize = PREFIX.len() + 1 + NamespaceId::LEN + 4 + BlockId::LEN + 1 + 4;

/// The associated data of a block; on the stack, as there is one per block.
pub(super) fn block_aad(
    object: ObjectType,
    ns: NamespaceId,
    epoch: Epoch,
    id: &BlockId,
    codec: u8,
    plain_len: u32,
) -> [u8; BLOCK_AAD_LEN] {
    let mut aad = [0; BLOCK_AAD_LEN];
    let mut rest = &mut aad[..];
    let mut put = |bytes: &[u8]| {
        let (place, behind) = std::mem::take(&mut rest).split_at_mut(bytes.len());
        place.copy_from_slice(bytes);
        rest = behind;
    };
    put(PREFIX);
    put(&[object.code()]);
    put(&ns.0);
    put(&epoch.0.to_le_bytes());
    put(&id.0);
    put(&[codec]);
    put(&plain_len.to_le_bytes());
    aad
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_laid_out_as_documented() {
        let ns = NamespaceId([0xaa; 16]);
        let context = Context::head(ns, MachineId([0xbb; 16]), 0x0102);
        let expected = [
            &[9, 0, 0, 0][..],
            b"tgcryptfs",
            &[1, 0x21],
            &[0xaa; 16],
            &[7, 0, 0, 0],
            &[0xbb; 16],
            &[2, 1, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(context.bytes(Epoch(7)), expected.concat());
    }

    #[test]
    fn block_aad_is_laid_out_as_documented() {
        let id = BlockId([0xcc; 32]);
        let ns = NamespaceId([0xaa; 16]);
        let aad = block_aad(ObjectType::TreeNode, ns, Epoch(7), &id, 2, 0x0304);
        let expected = [
            &[9, 0, 0, 0][..],
            b"tgcryptfs",
            &[1, 0x30],
            &[0xaa; 16],
            &[7, 0, 0, 0],
            &[0xcc; 32],
            &[2],
            &[4, 3, 0, 0],
        ];
        assert_eq!(aad[..], expected.concat()[..]);
    }
}

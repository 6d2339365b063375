//! Block records: `docs/FORMAT.md` §6.
//!
//! `nonce ‖ AES-GCM(body) ` under a key that belongs to the block's id, so the
//! same key only ever seals the same plaintext, and a record can move between
//! packs as it is. Opening has two halves, so that the second can run elsewhere:
//! [`open`] authenticates, [`decode`] decompresses and compares the id.

use super::aead::AeadKey;
use super::compress::{Codec, decompress};
use super::context::{ObjectType, block_aad};
use super::ids::{BlockId, Epoch};
use super::keys::{EpochKeys, NamespaceKeys};
use super::{Corrupt, CorruptKind, NONCE_LEN, Nonce, TAG_LEN};
use crate::env::Env;

/// Bytes of plaintext a block has at most.
pub const PLAIN_LEN_MAX: u32 = 4 << 20;

/// Bytes a record has more than its body.
pub const OVERHEAD: usize = NONCE_LEN + TAG_LEN;

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BlockType {
    /// File data.
    Data = 0x18,
    /// A node of a manifest or checkpoint tree.
    Tree = 0x30,
}

impl BlockType {
    /// The type with that code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Data, Self::Tree].into_iter().find(|block| block.code() == code)
    }

    /// Its code in the format.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The type of object it is.
    #[must_use]
    pub fn object(self) -> ObjectType {
        match self {
            Self::Data => ObjectType::DataBlock,
            Self::Tree => ObjectType::TreeNode,
        }
    }
}

/// Everything about a block but its bytes and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockHead {
    /// What it holds.
    pub block_type: BlockType,
    /// Its id.
    pub id: BlockId,
    /// How its body is compressed.
    pub codec: Codec,
    /// Bytes of its plaintext.
    pub plain_len: u32,
}

impl BlockHead {
    fn aad(&self, keys: &EpochKeys) -> impl AsRef<[u8]> + use<> {
        let (ns, epoch): (_, Epoch) = (keys.namespace(), keys.epoch());
        let object = self.block_type.object();
        block_aad(object, ns, epoch, &self.id, self.codec.code(), self.plain_len)
    }

    fn corrupt(&self, kind: CorruptKind) -> Corrupt {
        self.block_type.object().corrupt(kind)
    }

    /// Says whether a record of the block may have that length.
    #[must_use]
    pub fn allows_record_len(&self, len: usize) -> bool {
        len.checked_sub(OVERHEAD).is_some_and(|len| self.allows_body_len(len))
    }

    /// Says whether a body may have that length.
    fn allows_body_len(&self, len: usize) -> bool {
        let plain_len = usize::try_from(self.plain_len).unwrap_or(usize::MAX);
        let fits = match self.codec {
            Codec::Raw => len == plain_len,
            Codec::Lz4 | Codec::Zstd => len < plain_len,
        };
        fits && (1..=PLAIN_LEN_MAX).contains(&self.plain_len)
    }
}

/// The id of a block's plaintext.
#[must_use]
pub fn block_id(keys: &NamespaceKeys, block_type: BlockType, plaintext: &[u8]) -> BlockId {
    match block_type {
        BlockType::Data => keys.block_id(plaintext),
        BlockType::Tree => keys.tree_id(plaintext),
    }
}

/// Seals a body and adds the record to `out`; answers the record's length.
pub fn seal(
    env: &Env,
    keys: &EpochKeys,
    head: &BlockHead,
    body: &[u8],
    out: &mut Vec<u8>,
) -> usize {
    seal_with(&env.random_array(), keys, head, body, out)
}

pub(crate) fn seal_with(
    nonce: &Nonce,
    keys: &EpochKeys,
    head: &BlockHead,
    body: &[u8],
    out: &mut Vec<u8>,
) -> usize {
    let key = AeadKey::new(&keys.block_key(&head.id));
    key.seal_onto(nonce, head.aad(keys).as_ref(), body, out);
    OVERHEAD + body.len()
}

/// Opens a record and answers the body, still compressed.
///
/// # Errors
///
/// [`Corrupt`] if the record is not that block's.
pub fn open(keys: &EpochKeys, head: &BlockHead, record: &[u8]) -> Result<Vec<u8>, Corrupt> {
    if !head.allows_record_len(record.len()) {
        return Err(head.corrupt(CorruptKind::Length));
    }
    let key = AeadKey::new(&keys.block_key(&head.id));
    let body = key.open_copy(head.aad(keys).as_ref(), record);
    body.map_err(|_| head.corrupt(CorruptKind::Authentication))
}

/// Decompresses an opened body and compares the id; the plaintext of a block is
/// never used without.
///
/// # Errors
///
/// [`Corrupt`] if the body is not that block's.
pub fn decode(keys: &NamespaceKeys, head: &BlockHead, body: Vec<u8>) -> Result<Vec<u8>, Corrupt> {
    if !head.allows_body_len(body.len()) {
        return Err(head.corrupt(CorruptKind::Length));
    }
    let plain_len = usize::try_from(head.plain_len).unwrap_or(usize::MAX);
    let plaintext = decompress(head.codec, body, plain_len)
        .ok_or_else(|| head.corrupt(CorruptKind::Compression))?;
    if block_id(keys, head.block_type, &plaintext) != head.id {
        return Err(head.corrupt(CorruptKind::Identity));
    }
    Ok(plaintext)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::compress::{Compression, compress};
    use crate::crypto::ids::NamespaceId;
    use crate::crypto::keys::EpochSecret;
    use crate::crypto::secret::Key32;

    fn epoch_keys(ns: u8, epoch: u32, secret: u8) -> EpochKeys {
        let secret = EpochSecret::new(Key32::copy_of(&[secret; 32]));
        EpochKeys::new(NamespaceId([ns; 16]), Epoch(epoch), &secret)
    }

    fn namespace_keys() -> NamespaceKeys {
        NamespaceKeys::new(Key32::copy_of(&[9; 32]))
    }

    fn record_of(plaintext: &[u8], wanted: Compression) -> (BlockHead, Vec<u8>) {
        let (codec, body) = compress(plaintext, wanted);
        let head = BlockHead {
            block_type: BlockType::Data,
            id: namespace_keys().block_id(plaintext),
            codec,
            plain_len: u32::try_from(plaintext.len()).unwrap(),
        };
        let mut record = Vec::new();
        let len = seal(&Env::simulated(3).0, &epoch_keys(1, 2, 3), &head, &body, &mut record);
        assert_eq!((len, record.len()), (body.len() + OVERHEAD, body.len() + OVERHEAD));
        (head, record)
    }

    fn read(keys: &EpochKeys, head: &BlockHead, record: &[u8]) -> Result<Vec<u8>, CorruptKind> {
        let body = open(keys, head, record).map_err(|corrupt| corrupt.kind)?;
        decode(&namespace_keys(), head, body).map_err(|corrupt| corrupt.kind)
    }

    #[test]
    fn blocks_come_back() {
        let text = b"some text, some text, some text, some text ".repeat(100);
        for wanted in [Compression::None, Compression::Lz4, Compression::Zstd { level: 3 }] {
            let (head, record) = record_of(&text, wanted);
            assert_eq!(read(&epoch_keys(1, 2, 3), &head, &record).unwrap(), text);
        }
    }

    #[test]
    fn sealing_adds_to_what_is_there() {
        let (head, record) = record_of(b"one", Compression::None);
        let mut out = vec![1, 2, 3];
        let keys = epoch_keys(1, 2, 3);
        seal(&Env::simulated(3).0, &keys, &head, b"one", &mut out);
        assert_eq!(out, [&[1, 2, 3][..], &record].concat());
    }

    #[test]
    fn s01_any_flipped_bit_of_a_record_is_corrupt() {
        let (head, record) = record_of(b"some data", Compression::None);
        for bit in 0..record.len() * 8 {
            let mut changed = record.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                read(&epoch_keys(1, 2, 3), &head, &changed),
                Err(CorruptKind::Authentication)
            );
        }
    }

    #[test]
    fn s02_swapped_blocks_are_corrupt() {
        let (one, _) = record_of(b"block one", Compression::None);
        let (_, two_record) = record_of(b"block two", Compression::None);
        let kind = read(&epoch_keys(1, 2, 3), &one, &two_record);
        assert_eq!(kind, Err(CorruptKind::Authentication));
    }

    #[test]
    fn s04_truncated_block_is_corrupt() {
        for wanted in [Compression::None, Compression::Lz4] {
            let (head, record) = record_of(&[7; 2000], wanted);
            for len in [0, 1, OVERHEAD - 1, OVERHEAD, record.len() - 1] {
                assert!(read(&epoch_keys(1, 2, 3), &head, &record[..len]).is_err());
            }
            let longer = [&record[..], &[0]].concat();
            assert!(read(&epoch_keys(1, 2, 3), &head, &longer).is_err());
        }
    }

    #[test]
    fn s05_s06_blocks_open_only_where_they_belong() {
        let (head, record) = record_of(b"some data", Compression::None);
        for keys in [epoch_keys(9, 2, 3), epoch_keys(1, 9, 3), epoch_keys(1, 2, 9)] {
            assert_eq!(read(&keys, &head, &record), Err(CorruptKind::Authentication));
        }
        let keys = epoch_keys(1, 2, 3);
        let as_tree = BlockHead { block_type: BlockType::Tree, ..head };
        assert_eq!(read(&keys, &as_tree, &record), Err(CorruptKind::Authentication));
        let (packed, packed_record) = record_of(&[0; 900], Compression::Lz4);
        let as_zstd = BlockHead { codec: Codec::Zstd, ..packed };
        assert_eq!(read(&keys, &as_zstd, &packed_record), Err(CorruptKind::Authentication));
        let longer = BlockHead { plain_len: packed.plain_len + 1, ..packed };
        assert_eq!(read(&keys, &longer, &packed_record), Err(CorruptKind::Authentication));
    }

    #[test]
    fn s07_s25_content_that_is_not_the_ids_is_corrupt() {
        // Somebody who has the keys seals other bytes under a known id.
        let (head, _) = record_of(b"some data", Compression::None);
        let keys = epoch_keys(1, 2, 3);
        let mut record = Vec::new();
        seal(&Env::simulated(3).0, &keys, &head, b"evil data", &mut record);
        assert_eq!(read(&keys, &head, &record), Err(CorruptKind::Identity));
    }

    #[test]
    fn s22_a_body_that_expands_to_more_or_less_is_corrupt() {
        let keys = epoch_keys(1, 2, 3);
        for (codec, wanted) in
            [(Codec::Lz4, Compression::Lz4), (Codec::Zstd, Compression::Zstd { level: 3 })]
        {
            let (_, body) = compress(&[0; 1 << 20], wanted);
            for plain_len in [(1 << 20) - 1, (1 << 20) + 1] {
                let head = BlockHead {
                    block_type: BlockType::Data,
                    id: BlockId([1; 32]),
                    codec,
                    plain_len,
                };
                let mut record = Vec::new();
                seal(&Env::simulated(3).0, &keys, &head, &body, &mut record);
                assert_eq!(read(&keys, &head, &record), Err(CorruptKind::Compression));
            }
        }
    }

    #[test]
    fn lengths_outside_the_format_are_refused_first() {
        let (head, record) = record_of(b"some data", Compression::None);
        let keys = epoch_keys(1, 2, 3);
        for plain_len in [0, 8, PLAIN_LEN_MAX + 1, u32::MAX] {
            for codec in [Codec::Raw, Codec::Lz4] {
                let lying = BlockHead { plain_len, codec, ..head };
                let body = vec![0; 9];
                if plain_len == 8 || codec == Codec::Raw || plain_len > PLAIN_LEN_MAX {
                    assert_eq!(read(&keys, &lying, &record), Err(CorruptKind::Length));
                    assert!(decode(&namespace_keys(), &lying, body).is_err());
                }
            }
        }
    }
}

//! Block records, their bodies and the two decompressors.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tgcryptfs::crypto::BlockId;
use tgcryptfs::crypto::block::{self, BlockHead, BlockType};
use tgcryptfs::crypto::compress::{Codec, Compression, compress, decompress};
use tgcryptfs_fuzz::{EPOCH_KEYS, NAMESPACE_KEYS};

fuzz_target!(|input: &[u8]| {
    let Some((&[kind, codec, a, b, c, d], body)) = input.split_first_chunk() else { return };
    let codecs = [Codec::Raw, Codec::Lz4, Codec::Zstd];
    let mut head = BlockHead {
        block_type: if kind & 1 == 0 { BlockType::Data } else { BlockType::Tree },
        id: BlockId([7; 32]),
        codec: codecs[usize::from(codec % 3)],
        plain_len: u32::from_le_bytes([a, b, c, d]),
    };
    // As a store gives it, and as whoever has the keys may have made it.
    assert!(block::open(&EPOCH_KEYS, &head, body).is_err());
    assert!(block::decode(&NAMESPACE_KEYS, &head, body.to_vec()).is_err());

    head.plain_len %= block::PLAIN_LEN_MAX + 1;
    let plain_len = head.plain_len as usize;
    if let Some(plaintext) = decompress(head.codec, body.to_vec(), plain_len) {
        assert_eq!(plaintext.len(), plain_len);
        head.id = block::block_id(&NAMESPACE_KEYS, head.block_type, &plaintext);
        // Longer than it needs to be is the one thing left to refuse.
        if let Ok(decoded) = block::decode(&NAMESPACE_KEYS, &head, body.to_vec()) {
            assert_eq!(decoded, plaintext);
        }
    }
    for wanted in [Compression::Lz4, Compression::Zstd { level: 1 }] {
        let (codec, packed) = compress(body, wanted);
        assert_eq!(decompress(codec, packed.into_owned(), body.len()).as_deref(), Some(body));
    }
});

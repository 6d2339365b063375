//! S07 and S21: what must never meet, and what must look like chance.

use super::adversary::{Kind, Sample};
use super::vault::run;
use tgcryptfs::crypto::aead::AeadKey;
use tgcryptfs::crypto::block::{self, BlockHead, BlockType, block_id};
use tgcryptfs::crypto::compress::Codec;
use tgcryptfs::crypto::kdf::{derive, derive_public, extract};
use tgcryptfs::crypto::{
    BlockId, Context, CorruptKind, Epoch, EpochKeys, EpochSecret, Key32, MachineId, NamespaceId,
    NamespaceKeys, envelope,
};
use tgcryptfs::env::Env;

const NS: NamespaceId = NamespaceId([4; 16]);
/// Objects sealed in one hunt.
const OBJECTS: usize = 1_000_000;
/// Bytes of an object that are looked at.
const HEAD_LEN: usize = 128;

/// Chi squared of counts that should be equal.
pub(super) fn chi_squared(counts: &[u32]) -> f64 {
    let expected = counts.iter().map(|count| f64::from(*count)).sum::<f64>() / counts.len() as f64;
    counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
}

/// What chance exceeds once in far more than a billion tries: nine deviations above the
/// mean, for as many counts.
pub(super) fn chance_max(counts: usize) -> f64 {
    let freedom = (counts - 1) as f64;
    freedom + 9.0 * (2.0 * freedom).sqrt()
}

/// Seals the same plaintext under the same key in the same place, a million times.
#[test]
fn s21_a_million_objects_share_no_salt_nonce_or_first_byte() {
    let (env, key) = (Env::real(), Key32::copy_of(&[1; 32]));
    let context = Context::head(NS, MachineId([7; 16]), 0);
    let batches: Vec<usize> = (0..8).collect();
    let heads = env.map(&batches, |_| {
        let mut heads = Vec::with_capacity(OBJECTS / 8);
        for _ in 0..OBJECTS / 8 {
            let sealed = envelope::seal_under(&env, &key, Epoch(0), &context, b"").unwrap();
            heads.push(*sealed.first_chunk::<HEAD_LEN>().unwrap());
        }
        heads
    });
    let heads = || heads.iter().flatten();
    assert_eq!(heads().count(), OBJECTS);
    for (what, range) in [("salt", 0..12), ("commitment", 32..44), ("nonce", 64..76)] {
        let mut seen: Vec<[u8; 12]> =
            heads().map(|head| head[range.clone()].try_into().unwrap()).collect();
        seen.sort_unstable();
        assert!(seen.windows(2).all(|pair| pair[0] != pair[1]), "a {what} came twice");
    }
    for at in 0..HEAD_LEN {
        let mut counts = [0; 256];
        heads().for_each(|head| counts[usize::from(head[at])] += 1);
        let found = chi_squared(&counts);
        assert!(found < chance_max(256), "byte {at} is not uniform: {found}");
    }
}

/// The same for what a vault really stored: nothing in any object stands still.
#[test]
fn s21_no_two_objects_of_a_vault_share_sixteen_bytes() {
    let sample = run(Sample::new());
    let mut windows = std::collections::HashSet::new();
    let mut stored = std::collections::HashSet::new();
    for (name, body) in sample.recorder.everything() {
        // The header is documented, and has the same slots in each generation.
        if sample.insider.kinds.get(&name) == Some(&Kind::Header) {
            continue;
        }
        assert!(stored.insert(name), "{name} was stored twice");
        for window in body.windows(16) {
            assert!(windows.insert(<[u8; 16]>::try_from(window).unwrap()), "in {name}");
        }
    }
    assert!(windows.len() > 400_000, "{}", windows.len());
}

fn epoch(number: u32) -> EpochKeys {
    let secret = EpochSecret::new(Key32::copy_of(&[number as u8 + 1; 32]));
    EpochKeys::new(NS, Epoch(number), &secret)
}

/// The product in the field of GCM (SP 800-38D, 6.3), most significant bit first.
fn times(x: u128, y: u128) -> u128 {
    let (mut z, mut v) = (0, y);
    for bit in (0..128).rev() {
        if x >> bit & 1 == 1 {
            z ^= v;
        }
        v = if v & 1 == 1 { v >> 1 ^ 0xe1 << 120 } else { v >> 1 };
    }
    z
}

fn inverse(x: u128) -> u128 {
    // x^(2^128 - 2).
    let (mut power, mut result) = (x, 1 << 127);
    for _ in 1..128 {
        power = times(power, power);
        result = times(result, power);
    }
    result
}

/// What GCM adds up for a key and nonce: the key of its hash and the mask of its tag.
struct Gcm {
    hash_key: u128,
    mask: u128,
}

impl Gcm {
    fn of(key: &Key32, nonce: &[u8; 12]) -> Self {
        let tag = |aad: &[u8]| {
            let mut sealed = Vec::new();
            AeadKey::new(key).seal_onto(nonce, aad, b"", &mut sealed);
            u128::from_be_bytes(sealed[12..].try_into().unwrap())
        };
        // Without anything to hash the tag is the mask; a block of zeros adds its length.
        let mask = tag(b"");
        let length = 128 << 64;
        Self { hash_key: times(tag(&[0; 16]) ^ mask, inverse(length)), mask }
    }

    /// The tag of a ciphertext.
    fn tag(&self, aad: &[u8], ciphertext: &[u8]) -> u128 {
        let mut sum = 0;
        let mut add = |bytes: &[u8]| {
            for chunk in bytes.chunks(16) {
                let mut block = [0; 16];
                block[..chunk.len()].copy_from_slice(chunk);
                sum = times(sum ^ u128::from_be_bytes(block), self.hash_key);
            }
        };
        add(aad);
        add(ciphertext);
        let lengths = ((aad.len() as u128 * 8) << 64) | (ciphertext.len() as u128 * 8);
        times(sum ^ lengths, self.hash_key) ^ self.mask
    }
}

/// A ciphertext, tag included, that authenticates under two keys: "salamander" (Dodis,
/// Grubbs, Ristenpart, Woodage, CRYPTO 2018). All of it is free but its last block.
fn salamander(keys: [(&Key32, &[u8]); 2], nonce: &[u8; 12], len: usize) -> Vec<u8> {
    let gcms = keys.map(|(key, aad)| (Gcm::of(key, nonce), aad));
    let mut ciphertext = vec![0; len];
    // The last block x adds x·H² to the tag: solve for equal tags.
    let tags = gcms.each_ref().map(|(gcm, aad)| gcm.tag(aad, &ciphertext));
    let squares = gcms.each_ref().map(|(gcm, _)| times(gcm.hash_key, gcm.hash_key));
    let block = times(tags[0] ^ tags[1], inverse(squares[0] ^ squares[1]));
    ciphertext[len - 16..].copy_from_slice(&block.to_be_bytes());
    let tag = gcms[0].0.tag(gcms[0].1, &ciphertext);
    ciphertext.extend_from_slice(&tag.to_be_bytes());
    ciphertext
}

#[test]
fn s07_a_salamander_is_no_sealed_object() {
    let (salt, nonce) = ([9; 32], [5; 12]);
    let context = Context::head(NS, MachineId([7; 16]), 3);
    let epochs = [epoch(0), epoch(1)];
    let derived = epochs.each_ref().map(|keys| {
        let aad = context.bytes(keys.epoch());
        let prk = extract(&salt, keys.sealing_key(context.object()).expose());
        let commit: [u8; 32] = derive_public(&prk, "commit", &[&aad]);
        (derive(&prk, "key", &[&aad]), commit, aad)
    });
    let both = derived.each_ref().map(|(key, _, aad)| (key, &aad[..]));
    let ciphertext = salamander(both, &nonce, 1024);
    // It does authenticate under both: only the commitment tells.
    for (key, _, aad) in &derived {
        let sealed = [&nonce[..], &ciphertext].concat();
        assert!(AeadKey::new(key).open_copy(aad, &sealed).is_ok(), "this is no salamander");
    }
    for (author, (_, commit, _)) in derived.iter().enumerate() {
        let object = [&salt[..], commit, &nonce, &ciphertext].concat();
        let other = envelope::open([&epochs[1 - author]], &context, &object).unwrap_err();
        assert_eq!(other.kind, CorruptKind::Commitment);
        // Whoever made it reads what they made, if it were padded: under one key only.
        let own = envelope::open([&epochs[author]], &context, &object).unwrap_err();
        assert_eq!(own.kind, CorruptKind::Padding);
        let either = envelope::open(&epochs, &context, &object).unwrap_err();
        assert_eq!(either.kind, CorruptKind::Padding);
    }
}

#[test]
fn s07_a_salamander_is_no_block() {
    let (keys, namespace) = (epoch(0), NamespaceKeys::new(Key32::copy_of(&[3; 32])));
    let nonce = [5; 12];
    let heads = [BlockId([1; 32]), block_id(&namespace, BlockType::Data, &[0; 1024])].map(|id| {
        BlockHead { block_type: BlockType::Data, id, codec: Codec::Raw, plain_len: 1024 }
    });
    let aads = heads.map(|head| aad_of(&keys, &head));
    let block_keys = heads.map(|head| keys.block_key(&head.id));
    let both = [(&block_keys[0], &aads[0][..]), (&block_keys[1], &aads[1][..])];
    let record = [&nonce[..], &salamander(both, &nonce, 1024)].concat();
    for head in &heads {
        let body = block::open(&keys, head, &record).expect("this is no salamander");
        let error = block::decode(&namespace, head, body).unwrap_err();
        assert_eq!(error.kind, CorruptKind::Identity);
    }
}

/// What a block is bound to, laid out as `docs/FORMAT.md` §6 says.
fn aad_of(keys: &EpochKeys, head: &BlockHead) -> Vec<u8> {
    let mut aad = b"\x09\0\0\0tgcryptfs\x01".to_vec();
    aad.push(head.block_type.code());
    aad.extend_from_slice(&keys.namespace().0);
    aad.extend_from_slice(&keys.epoch().0.to_le_bytes());
    aad.extend_from_slice(&head.id.0);
    aad.push(head.codec.code());
    aad.extend_from_slice(&head.plain_len.to_le_bytes());
    aad
}

//! The directory and trailer of a pack: as a store gives them, and sealed properly
//! with anything inside.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use tgcryptfs::codec::{Reader, Writer};
use tgcryptfs::crypto::aead::AeadKey;
use tgcryptfs::crypto::context::pack_context;
use tgcryptfs::crypto::{Epoch, PackId, kdf};
use tgcryptfs::data::pack::{DirPlace, HEADER_LEN, PackDir, encode_entry};
use tgcryptfs_fuzz::{EPOCH_KEYS, NS};

const PACK: PackId = PackId([8; 16]);
const SALT: [u8; 32] = [9; 32];

static KEY: LazyLock<AeadKey> = LazyLock::new(|| {
    let prk = kdf::extract(&SALT, EPOCH_KEYS.data_key().expose());
    AeadKey::new(&kdf::derive(&prk, "pack-key", &[&context()]))
});

static DIR: LazyLock<PackDir> = LazyLock::new(|| {
    let prk = kdf::extract(&SALT, EPOCH_KEYS.data_key().expose());
    let commit: [u8; 32] = kdf::derive_public(&prk, "pack-commit", &[&context()]);
    PackDir::open(&EPOCH_KEYS, PACK, &[SALT, commit].concat()).expect("the keys are right")
});

fn context() -> Vec<u8> {
    pack_context(NS, Epoch(0), PACK)
}

fn sealed(part: u8, plain: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::new();
    KEY.seal_onto(&[0; 12], &[&context()[..], &[part]].concat(), plain, &mut sealed);
    sealed
}

fuzz_target!(|input: &[u8]| {
    let mut r = Reader::new(input);
    let (Ok(size), Ok(count)) = (r.u64("size"), r.u32("count")) else { return };
    let plain = r.rest();
    assert!(PackDir::open(&EPOCH_KEYS, PACK, plain).is_err());
    assert!(DIR.trailer(plain, size).is_err());

    if let Ok(place) = DIR.trailer(&sealed(0x12, plain), size) {
        assert_eq!(place.offset + place.len + 64, size);
        let mut w = Writer::new();
        w.u64(place.offset).u32(place.len as u32).u32(place.count).zeros(20);
        assert_eq!(w.as_slice(), plain);
    }

    let place = DirPlace { offset: size, len: plain.len() as u64, count };
    assert!(DIR.entries(plain, place).is_err());
    if let Ok(entries) = DIR.entries(&sealed(0x11, plain), place) {
        let mut end = HEADER_LEN;
        for (_, at) in &entries {
            assert!(u64::from(at.offset) >= end);
            end = u64::from(at.offset) + u64::from(at.sealed_len);
        }
        assert!(end <= place.offset && entries.len() == count as usize);
        let mut w = Writer::new();
        w.list(&entries, encode_entry);
        let padding = plain.len() - w.len();
        w.zeros(padding);
        assert_eq!(w.as_slice(), plain);
    }
});

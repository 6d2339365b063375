//! What a machine keeps on its own disk: its identity, the pin of the
//! vault, and what it has seen of a namespace.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tgcryptfs::crypto::MachineId;
use tgcryptfs::crypto::aead::AeadKey;
use tgcryptfs::engine::anchors::Anchors;
use tgcryptfs::engine::identity::Identity;
use tgcryptfs::vault::Pin;
use tgcryptfs_fuzz::{ENV, MASTER, NS, canonical};

fuzz_target!(|input: &[u8]| {
    canonical(input, |input| Pin::decode(input).ok_or(()), Pin::encode);

    assert!(Identity::decode(input, &MASTER).is_none());
    // Sealed properly, with anything inside.
    let machine = MachineId([7; 16]);
    let aad = [&b"tgcryptfs/v1/identity"[..], &machine.0].concat();
    let mut bytes = [&b"TGCFSMCH\x01"[..], &MASTER.vault().0, &machine.0].concat();
    AeadKey::new(&MASTER.machine_key(machine)).seal_onto(&[0; 12], &aad, input, &mut bytes);
    let read = Identity::decode(&bytes, &MASTER);
    assert_eq!(read.is_some(), input.len() == 64);
    if let Some(identity) = read {
        let again = identity.encode(&MASTER, &ENV);
        assert_eq!(again.len(), bytes.len());
        assert!(Identity::decode(&again, &MASTER).is_some());
    }

    let (key, place) = (MASTER.machine_key(machine), (machine, NS));
    assert!(Anchors::open(&key, place, input).is_err());
    let aad = [&b"tgcryptfs/v1/anchors"[..], &machine.0, &NS.0].concat();
    let mut bytes = b"TGCFSANC\x01".to_vec();
    AeadKey::new(&key).seal_onto(&[0; 12], &aad, input, &mut bytes);
    let read = Anchors::open(&key, place, &bytes);
    assert_eq!(read, Anchors::decode(input));
    if let Ok(anchors) = read {
        let again = anchors.seal(&key, place, &ENV);
        assert_eq!(Anchors::open(&key, place, &again), Ok(anchors));
    }
});

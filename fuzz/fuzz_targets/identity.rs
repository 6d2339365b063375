//! What a machine keeps on its own disk: its identity, and the pin of the vault.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tgcryptfs::crypto::MachineId;
use tgcryptfs::crypto::aead::AeadKey;
use tgcryptfs::engine::identity::Identity;
use tgcryptfs::vault::Pin;
use tgcryptfs_fuzz::{ENV, MASTER, canonical};

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
});

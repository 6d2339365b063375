//! Sealed objects of every type: as a store gives them, what is sealed, and what
//! somebody who has the keys may have padded in another way.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tgcryptfs::crypto::aead::AeadKey;
use tgcryptfs::crypto::{
    Context, Epoch, Incarnation, Key32, MachineId, envelope,
    kdf::{derive, derive_public, extract},
};
use tgcryptfs_fuzz::{ENV, NS};

const EPOCH: Epoch = Epoch(3);
const SALT: [u8; 32] = [9; 32];

fn context(which: u8) -> Context {
    let machine = MachineId([7; 16]);
    match which % 7 {
        0 => Context::membership(NS, 1),
        1 => Context::owner_wrap(NS, &SALT),
        2 => Context::previous_secret(NS, Epoch(2)),
        3 => Context::segment(NS, machine, Incarnation([6; 8]), 5),
        4 => Context::head(NS, machine, 4),
        5 => Context::incarnation(NS, machine, 3),
        _ => Context::checkpoint(NS, machine, 2),
    }
}

/// A sealed object whose padded plaintext is `padded`.
fn forged(key: &Key32, context: &Context, padded: &[u8]) -> Vec<u8> {
    let aad = context.bytes(EPOCH);
    let prk = extract(&SALT, key.expose());
    let commit: [u8; 32] = derive_public(&prk, "commit", &[&aad]);
    let mut sealed = [SALT, commit].concat();
    let key = AeadKey::new(&derive(&prk, "key", &[&aad]));
    key.seal_onto(&[0; 12], &aad, padded, &mut sealed);
    sealed
}

fuzz_target!(|input: &[u8]| {
    let Some((&which, input)) = input.split_first() else { return };
    let (context, key) = (context(which), Key32::copy_of(&[1; 32]));
    let open = |sealed: &[u8]| envelope::open_under([(EPOCH, &key)], &context, sealed);
    assert!(open(input).is_err());

    let max = context.object().plaintext_max();
    match envelope::seal_under(&ENV, &key, EPOCH, &context, input) {
        Ok(sealed) => {
            assert!(sealed.len() <= context.object().sealed_max());
            if let Ok(opened) = open(&sealed) {
                assert_eq!(*opened.plaintext, input);
            } else {
                panic!("it does not open as it was sealed");
            }
        }
        Err(_) => assert!(input.len() > max),
    }

    let sealed = forged(&key, &context, input);
    if let Ok(opened) = open(&sealed) {
        assert!(opened.plaintext.len() <= max);
        let again = envelope::seal_under(&ENV, &key, EPOCH, &context, &opened.plaintext);
        assert_eq!(again.map(|again| again.len()), Ok(sealed.len()));
    }
});

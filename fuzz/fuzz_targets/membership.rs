//! Membership records: as a store gives them, and signed by the owner with
//! anything inside.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use tgcryptfs::crypto::{
    Context, Epoch, EpochKeys, EpochSecret, Key32, ObjectType, SignatureKind, envelope,
};
use tgcryptfs::vault::MembershipRecord;
use tgcryptfs::vault::membership::OBJECT_LEN_MAX;
use tgcryptfs_fuzz::{ENV, MASTER};

const SALT: [u8; 32] = [0; 32];
const SECRET: [u8; 32] = [5; 32];

/// Salt, owner's wrap and one step of wraps.
static WRAPPED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let ns = MASTER.namespace_id(0);
    let (key, context) = (MASTER.epoch_wrap_key(ns, Epoch(0)), Context::owner_wrap(ns, &SALT));
    let wrap = envelope::seal_under(&ENV, &key, Epoch(0), &context, &SECRET);
    [&SALT[..], &wrap.expect("a secret fits"), &[0; 16 * 80]].concat()
});

fuzz_target!(|input: &[u8]| {
    assert!(MembershipRecord::open_first(&MASTER, 0, input).is_err());

    let ns = MASTER.namespace_id(0);
    let keys = EpochKeys::new(ns, Epoch(0), &EpochSecret::new(Key32::copy_of(&SECRET)));
    // The place in the chain and the hash are right, everything else is the input.
    let place = [&ns.0[..], &[0; 8 + 4 + 32], &[1, 0]].concat();
    let mut plaintext = [&place[..], blake3::hash(&WRAPPED).as_bytes(), input].concat();
    MASTER.owner_signing_key().sign_onto(SignatureKind::Membership, &mut plaintext);
    let key = keys.sealing_key(ObjectType::Membership);
    let context = Context::membership(ns, 0);
    let sealed = envelope::seal_under(&ENV, key, Epoch(0), &context, &plaintext);
    let Ok(sealed) = sealed else { return };
    let object = [&WRAPPED[..], &sealed].concat();
    assert!(object.len() <= OBJECT_LEN_MAX);
    if let Ok(record) = MembershipRecord::open_first(&MASTER, 0, &object) {
        let body = record.body();
        assert_eq!((record.n(), body.ns_index, body.format_min), (0, 0, 1));
        assert!(body.name.len() <= 64 && body.members.len() <= 256 && body.cutoffs.len() <= 1024);
        for member in &body.members {
            assert_eq!(record.member(member.machine), Some(member));
        }
    }
});

//! Membership records: as a store gives them, and signed by the owner with anything
//! inside, as the first of a chain and as the one behind it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use tgcryptfs::crypto::{
    Context, Epoch, EpochKeys, EpochSecret, Key32, MachineId, ObjectType, SignatureKind,
    SigningKey, envelope,
};
use tgcryptfs::env::Env;
use tgcryptfs::vault::membership::{Level, NewNamespace, OBJECT_LEN_MAX, Role};
use tgcryptfs::vault::{Member, MembershipRecord};
use tgcryptfs_fuzz::{ENV, MASTER};

const SALT: [u8; 32] = [0; 32];

/// The secret of the first record's epoch, or of the one behind it.
fn secret() -> EpochSecret {
    EpochSecret::new(Key32::copy_of(&[5; 32]))
}

/// What the second record of a chain continues.
static FIRST: LazyLock<MembershipRecord> = LazyLock::new(|| {
    let signing_key = *SigningKey::from_seed(Key32::copy_of(&[7; 32])).public();
    let first_member = Member {
        machine: MachineId([7; 16]),
        slot: 7,
        role: Role::Admin,
        level: Level::Owner,
        signing_key,
        box_key: [9; 32],
        label: "first".to_owned(),
    };
    let new = NewNamespace {
        index: 0,
        name: "home".to_owned(),
        block_size: 128 << 10,
        vault_generation: 1,
        created: 1,
        first_member,
    };
    // Of its own, so that it is the same whatever came before.
    let env = Env::simulated(7).0;
    MembershipRecord::create(&env, &MASTER, new).expect("it keeps to the bounds").1
});

/// A record of which the owner signs everything.
struct Signed {
    n: u64,
    epoch: Epoch,
    secret: EpochSecret,
    /// Steps of places for wraps.
    steps: u16,
    previous: [u8; 32],
}

impl Signed {
    /// The object with this behind what is known of its place.
    fn object(&self, rest: &[u8]) -> Option<Vec<u8>> {
        let ns = MASTER.namespace_id(0);
        let key = MASTER.epoch_wrap_key(ns, self.epoch);
        let context = Context::owner_wrap(ns, &SALT);
        let secret = self.secret.key().expose();
        let wrap = envelope::seal_under(&ENV, &key, self.epoch, &context, secret);
        let wraps = vec![0; usize::from(self.steps) * 16 * 80];
        let wrapped = [&SALT[..], &wrap.expect("a secret fits"), &wraps].concat();
        // The place in the chain and the hash are right, everything else is the input.
        let (n, epoch) = (self.n.to_le_bytes(), self.epoch.0.to_le_bytes());
        let place = [&ns.0[..], &n, &epoch, &self.previous, &self.steps.to_le_bytes()].concat();
        let mut plaintext = [&place[..], blake3::hash(&wrapped).as_bytes(), rest].concat();
        MASTER.owner_signing_key().sign_onto(SignatureKind::Membership, &mut plaintext);
        let keys = EpochKeys::new(ns, self.epoch, &self.secret);
        let key = keys.sealing_key(ObjectType::Membership);
        let context = Context::membership(ns, self.n);
        let sealed = envelope::seal_under(&ENV, key, self.epoch, &context, &plaintext).ok()?;
        let object = [&wrapped[..], &sealed].concat();
        assert!(object.len() <= OBJECT_LEN_MAX);
        Some(object)
    }
}

fn is_within_bounds(record: &MembershipRecord) {
    let body = record.body();
    assert_eq!((body.ns_index, body.format_min), (0, 1));
    assert!(body.name.len() <= 64 && body.members.len() <= 256 && body.cutoffs.len() <= 1024);
    for member in &body.members {
        assert_eq!(record.member(member.machine), Some(member));
    }
}

fn first(steps: u16, input: &[u8]) {
    let signed = Signed { n: 0, epoch: Epoch(0), secret: secret(), steps, previous: [0; 32] };
    let Some(object) = signed.object(input) else { return };
    if let Ok(record) = MembershipRecord::open_first(&MASTER, 0, &object) {
        assert_eq!(record.n(), 0);
        is_within_bounds(&record);
    }
}

/// What stands before a record's secret of the epoch before: from the size of a block on.
const BEFORE_SECRET: usize = 4 + 1 + 8 + 8;

/// The record behind the first: in its epoch, or in the next one. There the first one's
/// secret is handed on, or whatever the input says.
fn second(steps: u16, rises: bool, hands_on: bool, input: &[u8]) {
    let ns = MASTER.namespace_id(0);
    let (epoch, secret) = match rises {
        true => (Epoch(1), secret()),
        false => (Epoch(0), EpochSecret::copy_of(FIRST.epoch_secret())),
    };
    // The number and the secret of the namespace never change.
    let name: &[u8] = b"\x04\0\0\0home";
    let mut rest = [&[0_u8; 4][..], name, FIRST.namespace_keys().secret().expose()].concat();
    match input.split_at_checked(BEFORE_SECRET).filter(|_| hands_on) {
        Some((before, behind)) => {
            let keys = EpochKeys::new(ns, epoch, &secret);
            let context = Context::previous_secret(ns, Epoch(0));
            let key = keys.sealing_key(ObjectType::PreviousSecret);
            let handed = FIRST.epoch_secret().key().expose();
            let sealed = envelope::seal_under(&ENV, key, epoch, &context, handed);
            rest.extend([before, &[1], &sealed.expect("a secret fits"), behind].concat());
        }
        None => rest.extend(input),
    }
    let signed = Signed { n: 1, epoch, secret, steps, previous: *FIRST.hash() };
    let Some(object) = signed.object(&rest) else { return };
    // In another place it is nothing.
    assert!(MembershipRecord::open_first(&MASTER, 0, &object).is_err());
    if let Ok(record) = FIRST.open_next(&MASTER, &object) {
        assert_eq!((record.n(), record.epoch()), (1, epoch));
        assert_eq!(record.body().prev_hash, *FIRST.hash());
        assert_eq!(record.body().previous_secret.is_some(), rises);
        is_within_bounds(&record);
        let earlier = &FIRST.body().members[0];
        for member in &record.body().members {
            let is_same = member.machine == earlier.machine;
            assert_eq!(is_same, member.slot == earlier.slot);
            assert!(!is_same || member.signing_key == earlier.signing_key);
        }
    }
}

fuzz_target!(|input: &[u8]| {
    assert!(MembershipRecord::open_first(&MASTER, 0, input).is_err());
    assert!(FIRST.open_next(&MASTER, input).is_err());
    let Some(([which, steps], input)) = input.split_first_chunk() else { return };
    let steps = u16::from(steps % 16) + 1;
    match which % 4 {
        0 => first(steps, input),
        1 => second(steps, false, false, input),
        2 => second(steps, true, true, input),
        _ => second(steps, true, false, input),
    }
});

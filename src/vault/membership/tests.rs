//! The chain, and attempts to break it.

use super::object::Fresh;
use super::*;
use crate::crypto::envelope::{self, OVERHEAD};
use crate::crypto::{
    Context, CorruptKind, Incarnation, Key32, MachineId, ObjectType, PublicKey, Secret, SigningKey,
    VaultId,
};

fn env() -> Env {
    Env::simulated(21).0
}

fn master() -> MasterKey {
    MasterKey::new(VaultId([1; 16]), Key32::copy_of(&[2; 32]))
}

fn public_key(fill: u8) -> PublicKey {
    *SigningKey::from_seed(Key32::copy_of(&[fill; 32])).public()
}

fn member(fill: u8) -> Member {
    Member {
        machine: MachineId([fill; 16]),
        slot: u16::from(fill),
        role: Role::Write,
        level: Level::Owner,
        signing_key: public_key(fill),
        box_key: [fill; 32],
        label: format!("machine {fill}"),
    }
}

fn new_namespace() -> NewNamespace {
    NewNamespace {
        index: 3,
        name: "home".to_owned(),
        block_size: 128 << 10,
        vault_generation: 2,
        created: 77,
        first_member: member(1),
    }
}

fn first() -> (Vec<u8>, MembershipRecord) {
    MembershipRecord::create(&env(), &master(), new_namespace()).unwrap()
}

fn second() -> (Vec<u8>, MembershipRecord) {
    first().1.add_member(&env(), &master(), member(2), 2, 78).unwrap()
}

/// A record as the owner would never make it, sealed and signed by the owner.
fn forged(change: impl FnOnce(&mut Draft)) -> Vec<u8> {
    let (_, first) = first();
    let mut draft = Draft {
        ns: first.ns,
        n: 1,
        epoch: first.epoch,
        body: Body { prev_hash: first.hash, ..first.body.clone() },
        secret: EpochSecret::copy_of(&first.secret),
        namespace_keys: NamespaceKeys::copy_of(&first.namespace_keys),
    };
    change(&mut draft);
    let keys = EpochKeys::new(draft.ns, draft.epoch, &draft.secret);
    object::seal(&Fresh::new(&env(), draft.wrap_steps()), &master(), &draft, &keys).unwrap().0
}

fn refusal(object: &[u8]) -> &'static str {
    match first().1.open_next(&master(), object) {
        Err(MembershipError::Rule { rule }) => rule,
        other => panic!("{other:?}"),
    }
}

#[test]
fn record_0_opens_as_it_was_made() {
    let (object, made) = first();
    assert_eq!(object.len(), 32 + 124 + 1280 + OVERHEAD + 1024);
    assert!(object.len() <= OBJECT_LEN_MAX);
    let read = MembershipRecord::open_first(&master(), 3, &object).unwrap();
    assert_eq!(read.body(), made.body());
    assert_eq!(read.hash(), made.hash());
    assert_eq!((read.n(), read.epoch()), (0, Epoch(0)));
    assert_eq!(read.namespace(), master().namespace_id(3));
    assert!(read.epoch_keys().data_key().is_equal(made.epoch_keys().data_key()));
    assert!(read.namespace_keys().secret().is_equal(made.namespace_keys().secret()));
    assert_eq!(read.member(MachineId([1; 16])), Some(&member(1)));
    assert_eq!(read.member(MachineId([9; 16])), None);
}

#[test]
fn the_chain_continues_with_the_same_secrets() {
    let (object, made) = second();
    let first = first().1;
    let read = first.open_next(&master(), &object).unwrap();
    assert_eq!((read.n(), read.body().members.len()), (1, 2));
    assert_eq!(read.body().prev_hash, *first.hash());
    assert_eq!(read.hash(), made.hash());
    assert!(read.epoch_secret().key().is_equal(first.epoch_secret().key()));
    let third = read.add_member(&env(), &master(), member(3), 5, 79).unwrap();
    let read = read.open_next(&master(), &third.0).unwrap();
    assert_eq!((read.n(), read.body().vault_generation_min), (2, 5));
}

#[test]
fn more_members_take_more_steps_of_wraps() {
    let (_, mut record) = first();
    for fill in 2..=40 {
        let (object, next) = record.add_member(&env(), &master(), member(fill), 2, 0).unwrap();
        let read = record.open_next(&master(), &object).unwrap();
        assert_eq!(read.body(), next.body());
        record = read;
    }
    assert_eq!(record.body().members.len(), 40);
}

#[test]
fn the_largest_record_fits_and_one_more_member_does_not() {
    let members: Vec<_> = (1..=256)
        .map(|slot: u16| {
            let mut machine = [0; 16];
            machine[..2].copy_from_slice(&slot.to_le_bytes());
            Member { machine: MachineId(machine), slot, label: "x".repeat(64), ..member(1) }
        })
        .collect();
    let full = forged(|draft| {
        draft.body.members = vec![member(1)];
        draft.body.members.extend(members[1..].iter().cloned());
    });
    let record = first().1.open_next(&master(), &full).unwrap();
    assert_eq!(record.body().members.len(), 256);
    assert!(full.len() <= OBJECT_LEN_MAX);
    let error = record.add_member(&env(), &master(), Member { slot: 300, ..member(9) }, 0, 0);
    assert!(matches!(error, Err(MembershipError::Rule { .. })));
    // Bounds that are met one by one can still be too much together.
    let cutoff = Cutoff {
        machine: MachineId([9; 16]),
        incarnation: Incarnation([9; 8]),
        seq: 0,
        hash: [0; 32],
    };
    let mut body = record.body.clone();
    body.cutoffs = vec![cutoff; 1024];
    let draft = Draft {
        ns: record.ns,
        n: 2,
        epoch: record.epoch,
        body,
        secret: record.secret,
        namespace_keys: record.namespace_keys,
    };
    let error = draft.seal(&Fresh::new(&env(), 16), &master()).map(|_| ());
    assert!(matches!(error, Err(MembershipError::TooLong(_))));
}

#[test]
fn s01_any_flipped_bit_of_a_record_is_noticed() {
    let (object, _) = first();
    for offset in (0..object.len()).filter(|offset| *offset < 160 || offset % 7 == 0) {
        let mut changed = object.clone();
        changed[offset] ^= 1 << (offset % 8);
        assert!(MembershipRecord::open_first(&master(), 3, &changed).is_err(), "byte {offset}");
    }
}

#[test]
fn s02_wraps_cannot_be_exchanged() {
    let (object, _) = first();
    let mut changed = object.clone();
    changed[200] ^= 1;
    let error = MembershipRecord::open_first(&master(), 3, &changed).unwrap_err();
    let rule = "the wraps are not those the owner signed";
    assert_eq!(error, MembershipError::Rule { rule });
    // Another step of places, or one fewer, does not belong to the body.
    let longer = [&object[..1436], &[0; 1280], &object[1436..]].concat();
    let error = MembershipRecord::open_first(&master(), 3, &longer).unwrap_err();
    assert_eq!(error, MembershipError::Rule { rule });
}

#[test]
fn the_number_of_wraps_is_stated_twice_and_must_agree() {
    let (_, made) = first();
    let draft = Draft {
        ns: made.ns,
        n: 0,
        epoch: made.epoch,
        body: made.body,
        secret: made.secret,
        namespace_keys: made.namespace_keys,
    };
    // The body says one step; two are there, and hashed.
    let fresh = Fresh::new(&env(), draft.wrap_steps() + 1);
    let (object, _) = draft.seal(&fresh, &master()).unwrap();
    let error = MembershipRecord::open_first(&master(), 3, &object).unwrap_err();
    let rule = "the wraps are not those the owner signed";
    assert_eq!(error, MembershipError::Rule { rule });
}

#[test]
fn s03_older_records_do_not_pass_for_the_next() {
    let (old, first) = first();
    let (object, second) = second();
    assert!(matches!(second.open_next(&master(), &object), Err(MembershipError::Corrupt(_))));
    assert!(matches!(first.open_next(&master(), &old), Err(MembershipError::Corrupt(_))));
    assert!(matches!(
        MembershipRecord::open_first(&master(), 3, &object),
        Err(MembershipError::Corrupt(_))
    ));
}

#[test]
fn s04_truncated_membership_record_is_corrupt() {
    let (object, _) = first();
    for len in (0..object.len()).step_by(13).chain([object.len() - 1]) {
        let opened = MembershipRecord::open_first(&master(), 3, &object[..len]);
        assert!(matches!(opened, Err(MembershipError::Corrupt(_))), "{len} bytes");
    }
    let longer = [&object[..], &[0]].concat();
    assert!(MembershipRecord::open_first(&master(), 3, &longer).is_err());
}

#[test]
fn s05_records_of_another_namespace_or_vault_do_not_open() {
    let (object, _) = first();
    let error = MembershipRecord::open_first(&master(), 4, &object).unwrap_err();
    let corrupt = ObjectType::OwnerWrap.corrupt(CorruptKind::Commitment);
    assert_eq!(error, MembershipError::Corrupt(corrupt));
    let other = MasterKey::new(VaultId([1; 16]), Key32::copy_of(&[3; 32]));
    assert!(MembershipRecord::open_first(&other, 3, &object).is_err());
    let elsewhere = forged(|draft| draft.n = 2);
    assert!(first().1.open_next(&master(), &elsewhere).is_err());
}

#[test]
fn s13_a_member_cannot_add_members() {
    // A member knows the epoch's keys and can seal, but does not have the
    // owner's signature.
    let (object, first) = first();
    let sealed = &object[32 + 124 + 1280..];
    let context = Context::membership(first.ns, 0);
    let keys = first.epoch_keys();
    let opened = envelope::open([keys], &context, sealed).unwrap();
    let mut plaintext = opened.plaintext.to_vec();
    let at = plaintext.windows(9).position(|window| window == b"machine 1").unwrap();
    plaintext[at..at + 9].copy_from_slice(b"machine 2");
    let resealed = envelope::seal(&env(), keys, &context, &plaintext).unwrap();
    let forged = [&object[..32 + 124 + 1280], &resealed].concat();
    let error = MembershipRecord::open_first(&master(), 3, &forged).unwrap_err();
    assert!(matches!(error, MembershipError::Unauthorised(_)));
}

#[test]
fn chains_that_contradict_themselves_are_refused() {
    assert_eq!(
        refusal(&forged(|draft| draft.body.prev_hash[0] ^= 1)),
        "it continues another chain"
    );
    let life = "number, secret and block size of a namespace never change";
    assert_eq!(refusal(&forged(|draft| draft.body.ns_index = 4)), life);
    assert_eq!(refusal(&forged(|draft| draft.body.block_size = 4096)), life);
    let other = || NamespaceKeys::new(Key32::copy_of(&[9; 32]));
    assert_eq!(refusal(&forged(|draft| draft.namespace_keys = other())), life);
    let falls = forged(|draft| draft.body.vault_generation_min = 1);
    assert_eq!(refusal(&falls), "required versions never fall");
    let secret = || EpochSecret::new(Secret::copy_of(&[9; 32]));
    assert_eq!(refusal(&forged(|draft| draft.secret = secret())), "an epoch has one secret");
    let keys = forged(|draft| draft.body.members[0].signing_key = public_key(9));
    assert_eq!(refusal(&keys), "a machine keeps its slot and keys");
    let slot = forged(|draft| draft.body.members[0].machine = MachineId([9; 16]));
    assert_eq!(refusal(&slot), "a slot belongs to one machine for ever");
    let root = forged(|draft| draft.body.members[0].slot = 0);
    assert_eq!(refusal(&root), "slot 0 belongs to the root directory");
    let twins = forged(|draft| draft.body.members.push(member(1)));
    assert_eq!(refusal(&twins), "machines and slots are distinct");
    let sealed = forged(|draft| draft.body.previous_secret = Some([0; 124]));
    assert_eq!(refusal(&sealed), "the epoch did not rise");
}

#[test]
fn an_epoch_that_rises_hands_the_old_secret_on() {
    let rise = |handed_on: Option<[u8; 32]>| {
        forged(|draft| {
            draft.epoch = Epoch(1);
            draft.secret = EpochSecret::new(Secret::copy_of(&[9; 32]));
            let keys = EpochKeys::new(draft.ns, draft.epoch, &draft.secret);
            let context = Context::previous_secret(draft.ns, Epoch(0));
            let sealed = handed_on.map(|secret| envelope::seal(&env(), &keys, &context, &secret));
            draft.body.previous_secret = sealed.map(|sealed| sealed.unwrap().try_into().unwrap());
        })
    };
    let old = *first().1.epoch_secret().key().expose();
    let record = first().1.open_next(&master(), &rise(Some(old))).unwrap();
    assert_eq!(record.epoch(), Epoch(1));
    assert_eq!(refusal(&rise(Some([7; 32]))), "an epoch has one secret");
    assert_eq!(refusal(&rise(None)), "the epoch's predecessor is missing");
    let skipped = forged(|draft| draft.epoch = Epoch(2));
    assert!(matches!(first().1.open_next(&master(), &skipped), Err(MembershipError::Corrupt(_))));
}

#[test]
fn values_outside_the_bounds_are_not_made() {
    let bad: [fn(&mut NewNamespace); 4] = [
        |new| new.name = "x".repeat(65),
        |new| new.block_size = 0,
        |new| new.block_size = (4 << 20) + 1,
        |new| new.first_member.label = "x".repeat(65),
    ];
    for change in bad {
        let mut new = new_namespace();
        change(&mut new);
        let made = MembershipRecord::create(&env(), &master(), new);
        assert!(matches!(made, Err(MembershipError::Rule { .. })));
    }
    let newer = forged(|draft| draft.body.format_min = 2);
    let error = first().1.open_next(&master(), &newer).unwrap_err();
    assert_eq!(error, MembershipError::VersionTooNew { version: 2 });
}

/// Record 0 as another implementation made it.
mod golden {
    use super::*;
    use crate::crypto::envelope::Fresh as SealFresh;
    use crate::crypto::names;
    use crate::golden::{Vector, vectors};
    use serde_json::Value;

    fn master() -> MasterKey {
        let keys = &vectors()["keys"];
        let bytes = Key32::copy_of(&keys.array("mk"));
        MasterKey::new(VaultId(keys.array("vault_id")), bytes)
    }

    fn member_of(vector: &Value) -> Member {
        assert_eq!((vector.number("role"), vector.number("level")), (3, 1));
        Member {
            machine: MachineId(vector.array("machine")),
            slot: u16::try_from(vector.number("slot")).unwrap(),
            role: Role::Admin,
            level: Level::Owner,
            signing_key: PublicKey::from_bytes(&vector.array("ed25519_pk")).unwrap(),
            box_key: vector.array("x25519_pk"),
            label: vector.text("label").to_owned(),
        }
    }

    fn body_of(vector: &Value) -> Body {
        Body {
            prev_hash: vector.array("prev_hash"),
            ns_index: vector.small("ns_index"),
            name: vector.text("name").to_owned(),
            block_size: vector.small("block_size"),
            format_min: u8::try_from(vector.number("format_min")).unwrap(),
            vault_generation_min: vector.number("vault_generation_min"),
            created: vector.number("created"),
            previous_secret: None,
            members: vector.items("members").iter().map(member_of).collect(),
            cutoffs: vec![],
        }
    }

    #[test]
    fn record_0_opens() {
        let (vector, keys) = (&vectors()["membership"], &vectors()["keys"]);
        let index = vector.small("ns_index");
        let record =
            MembershipRecord::open_first(&master(), index, &vector.bytes("bytes")).unwrap();
        assert_eq!(record.body(), &body_of(vector));
        assert_eq!(record.hash(), &vector.array("hash"));
        assert_eq!(record.epoch_secret().key().expose(), &keys["epochs"][0].array("es"));
        assert_eq!(record.namespace_keys().secret().expose(), &keys.array("nsk"));
        let ns = record.namespace();
        let name = names::membership(&master().membership_name_key(ns), ns, 0);
        assert_eq!(name, vector.text("object_name"));
    }

    #[test]
    fn the_same_inputs_make_the_same_bytes() {
        let (vector, keys) = (&vectors()["membership"], &vectors()["keys"]);
        let draft = Draft {
            ns: master().namespace_id(vector.small("ns_index")),
            n: 0,
            epoch: Epoch(0),
            body: body_of(vector),
            secret: EpochSecret::new(Key32::copy_of(&keys["epochs"][0].array("es"))),
            namespace_keys: NamespaceKeys::new(Key32::copy_of(&keys.array("nsk"))),
        };
        let wrap = &vector["owner_wrap"];
        let fresh = Fresh {
            salt: vector.array("salt"),
            owner_wrap: SealFresh { salt: wrap.array("salt"), nonce: wrap.array("nonce") },
            wraps: vector.bytes("wraps"),
            body: SealFresh { salt: vector.array("body_salt"), nonce: vector.array("body_nonce") },
        };
        let (object, record) = draft.seal(&fresh, &master()).unwrap();
        assert_eq!(object, vector.bytes("bytes"));
        assert_eq!(record.hash(), &vector.array("hash"));
    }
}

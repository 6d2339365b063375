//! Attacks on the header, by the numbers of the threat model.

use super::*;
use crate::crypto::kdf::KdfOutOfBounds;
use crate::vault::password::{KeyFile, Passphrase};
use crate::vault::recovery::RecoveryCode;
use crate::vault::slot::SlotKind;
use crate::vault::{Pin, check_pin};
use std::sync::OnceLock;
use zeroize::Zeroizing;

/// Offsets in a header with its first slot.
const GENERATION: usize = 25;
const OWNER: usize = 33;
const COUNT: usize = 65;
const SLOT: usize = 66;
const SLOT_M_KIB: usize = SLOT + 10;
const SLOT_T: usize = SLOT + 14;
const SLOT_P: usize = SLOT + 18;

fn env() -> Env {
    Env::simulated(11).0
}

fn passphrase(text: &str) -> Credential {
    Credential::Passphrase(Passphrase::new(text).unwrap())
}

fn recovery() -> Credential {
    Credential::Recovery(RecoveryCode::generate(&Env::simulated(12).0))
}

fn key_file(fill: u8) -> Credential {
    Credential::KeyFile(KeyFile::new(Zeroizing::new(vec![fill; 40])).unwrap())
}

/// One vault with a slot of each kind; made once, as Argon2 takes its time.
fn vault() -> &'static (VaultHeader, MasterKey) {
    static VAULT: OnceLock<(VaultHeader, MasterKey)> = OnceLock::new();
    VAULT.get_or_init(|| {
        let credentials = [&passphrase("open sesame"), &recovery(), &key_file(1)];
        create(&env(), &credentials, Argon2Params::FLOOR).unwrap()
    })
}

fn patched(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut header = vault().0.encode();
    header[offset..offset + bytes.len()].copy_from_slice(bytes);
    header
}

fn is_same(one: &MasterKey, two: &MasterKey) -> bool {
    one.bytes().is_equal(two.bytes())
}

fn slot_of(header: &VaultHeader, kind: SlotKind) -> SlotId {
    header.slots().find(|slot| slot.kind == kind).unwrap().id
}

#[test]
fn every_kind_of_credential_opens_the_vault() {
    let (header, master) = vault();
    let read = VaultHeader::parse(&header.encode()).unwrap();
    assert_eq!(&read, header);
    for credential in [passphrase("open sesame"), recovery(), key_file(1)] {
        assert!(is_same(&unlock(&read, &credential, None).unwrap(), master));
    }
    assert_eq!(unlock(header, &key_file(2), None).unwrap_err(), VaultError::BadPassword);
    let other = Credential::Recovery(RecoveryCode::generate(&Env::simulated(13).0));
    assert_eq!(unlock(header, &other, None).unwrap_err(), VaultError::BadPassword);
}

#[test]
fn a_slot_opens_with_its_own_kind_only() {
    let (header, _) = vault();
    let id = slot_of(header, SlotKind::Recovery);
    let error = unlock(header, &key_file(1), Some(id)).unwrap_err();
    let (slot, given) = (SlotKind::Recovery, SlotKind::KeyFile);
    assert_eq!(error, VaultError::WrongKind { id, slot, given });
    let id = SlotId([0; 8]);
    assert_eq!(unlock(header, &key_file(1), Some(id)).unwrap_err(), VaultError::UnknownSlot { id });
}

#[test]
fn s01_any_flipped_bit_of_the_header_is_noticed() {
    let (header, _) = vault();
    let bytes = header.encode();
    // With the key file, so that each try is fast; the last slot is its own.
    for offset in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[offset] ^= 1 << (offset % 8);
        let opened =
            VaultHeader::parse(&changed).and_then(|header| unlock(&header, &key_file(1), None));
        assert!(opened.is_err(), "byte {offset}");
    }
}

#[test]
fn s04_truncated_or_extended_header_is_refused() {
    let bytes = vault().0.encode();
    assert_eq!(bytes.len(), 66 + 3 * SLOT_LEN + 32);
    for len in 0..bytes.len() {
        assert!(VaultHeader::parse(&bytes[..len]).is_err(), "{len} bytes");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(VaultHeader::parse(&longer), Err(VaultError::Corrupt(_))));
    assert_eq!(VaultHeader::parse(&vec![0; HEADER_LEN_MAX + 1]), Err(VaultError::NotAVault));
    assert_eq!(VaultHeader::parse(b""), Err(VaultError::NotAVault));
}

#[test]
fn s08_hostile_kdf_parameters_are_refused_before_any_work() {
    let hostile: [(usize, u32); 7] = [
        (SLOT_M_KIB, u32::MAX),
        (SLOT_M_KIB, (1 << 20) + 1),
        (SLOT_M_KIB, 8),
        (SLOT_T, u32::MAX),
        (SLOT_T, 0),
        (SLOT_P, 0),
        (SLOT_P, u32::MAX),
    ];
    for (offset, value) in hostile {
        let parsed = VaultHeader::parse(&patched(offset, &value.to_le_bytes()));
        assert!(matches!(parsed, Err(VaultError::KdfOutOfBounds(_))), "{offset}: {value}");
    }
}

#[test]
fn s09_kdf_downgrade_does_not_open() {
    let below = patched(SLOT_M_KIB, &8_u32.to_le_bytes());
    let (t, p) = (2, 1);
    let error = VaultError::KdfOutOfBounds(KdfOutOfBounds { m_kib: 8, t, p });
    assert_eq!(VaultHeader::parse(&below), Err(error));

    // In bounds, but not what the slot was made with.
    let weaker = patched(SLOT_M_KIB, &(8_u32 << 10).to_le_bytes());
    let header = VaultHeader::parse(&weaker).unwrap();
    let opened = unlock(&header, &passphrase("open sesame"), None);
    assert_eq!(opened.unwrap_err(), VaultError::BadPassword);

    // A passphrase slot that claims to need no Argon2 at all.
    let mut hkdf = patched(SLOT + 9, &[2]);
    hkdf[SLOT_M_KIB..SLOT_M_KIB + 12].fill(0);
    assert!(matches!(VaultHeader::parse(&hkdf), Err(VaultError::Corrupt(_))));
}

#[test]
fn s09_new_slots_are_never_weak() {
    let weak = Argon2Params::new(8 << 10, 2, 1).unwrap();
    let (header, master) = vault();
    let error = header.add_slot(&env(), master, &passphrase("x"), weak).unwrap_err();
    assert_eq!(error, VaultError::KdfTooWeak(weak));
    let one_pass = Argon2Params::new(64 << 10, 1, 4).unwrap();
    assert!(create(&env(), &[&passphrase("x")], one_pass).is_err());
}

#[test]
fn s10_an_attackers_vault_does_not_pass_for_the_pinned_one() {
    let (header, _) = vault();
    let pin = Pin::of(header);
    assert_eq!(check_pin(header, &pin), Ok(()));
    let env = Env::simulated(99).0;
    let (foreign, _) = create(&env, &[&passphrase("open sesame")], Argon2Params::FLOOR).unwrap();
    assert!(matches!(check_pin(&foreign, &pin), Err(VaultError::VaultMismatch { .. })));

    // With the right vault id but another owner, too.
    let mut mixed = header.encode();
    mixed[OWNER..OWNER + 32].copy_from_slice(foreign.owner().as_bytes());
    let mixed = VaultHeader::parse(&mixed).unwrap();
    assert!(matches!(check_pin(&mixed, &pin), Err(VaultError::VaultMismatch { .. })));
    assert_eq!(unlock(&mixed, &key_file(1), None).unwrap_err(), VaultError::BadPassword);
}

#[test]
fn s11_lying_slot_counts_are_refused() {
    for count in [0, 1, 2, 4, 16, 17, 255] {
        assert!(matches!(
            VaultHeader::parse(&patched(COUNT, &[count])),
            Err(VaultError::Corrupt(_))
        ));
    }
    // 10 000 slots do not even fit.
    let slot = vault().0.encode()[SLOT..SLOT + SLOT_LEN].to_vec();
    let many = [&vault().0.encode()[..SLOT], &slot.repeat(10_000)].concat();
    assert_eq!(VaultHeader::parse(&many), Err(VaultError::NotAVault));
    // Slots with one id would make it unclear which was meant.
    let first_id: [u8; 8] = vault().0.encode()[SLOT..SLOT + 8].try_into().unwrap();
    let twins = VaultHeader::parse(&patched(SLOT + SLOT_LEN, &first_id));
    assert!(matches!(twins, Err(VaultError::Corrupt(_))));
}

#[test]
fn s11_only_the_named_slot_or_the_first_of_its_kind_is_tried() {
    let (header, master) = vault();
    let header = header.add_slot(&env(), master, &key_file(7), Argon2Params::FLOOR).unwrap();
    // The second key file's slot would open, but only the first is tried.
    assert_eq!(unlock(&header, &key_file(7), None).unwrap_err(), VaultError::BadPassword);
    let named = header.slots().last().unwrap().id;
    assert!(is_same(&unlock(&header, &key_file(7), Some(named)).unwrap(), master));
}

#[test]
fn s12_an_older_header_is_a_rollback() {
    let (old, master) = vault();
    let first = slot_of(old, SlotKind::Passphrase);
    let new =
        old.replace_slot(&env(), master, first, &passphrase("new"), Argon2Params::FLOOR).unwrap();
    let pin = Pin::of(&new);
    assert_eq!(check_pin(old, &pin), Err(VaultError::Rollback { found: 1, pinned: 2 }));
    assert_eq!(check_pin(&new, &Pin::of(old)), Ok(()));
    let lying = VaultHeader::parse(&patched(GENERATION, &9_u64.to_le_bytes())).unwrap();
    assert_eq!(unlock(&lying, &key_file(1), None).unwrap_err(), VaultError::Tampered);
}

#[test]
fn s34_wrong_passphrase_and_tampered_slot_give_one_error() {
    let (header, _) = vault();
    let wrong = unlock(header, &passphrase("open sesam"), None).unwrap_err();
    // Salt, commitment, nonce, wrapped key.
    for offset in [SLOT + 22, SLOT + 46, SLOT + 78, SLOT + 90, SLOT + 137] {
        let byte = header.encode()[offset] ^ 1;
        let tampered = VaultHeader::parse(&patched(offset, &[byte])).unwrap();
        let error = unlock(&tampered, &passphrase("open sesame"), None).unwrap_err();
        assert_eq!(error, wrong);
        assert_eq!(error.to_string(), wrong.to_string());
    }
}

#[test]
fn a_store_cannot_remove_or_reorder_slots() {
    let bytes = vault().0.encode();
    let slots: Vec<_> = bytes[SLOT..SLOT + 3 * SLOT_LEN].chunks(SLOT_LEN).collect();
    let fewer = [&bytes[..COUNT], &[1], slots[2], &bytes[SLOT + 3 * SLOT_LEN..]].concat();
    let fewer = VaultHeader::parse(&fewer).unwrap();
    assert_eq!(unlock(&fewer, &key_file(1), None).unwrap_err(), VaultError::Tampered);
    let turned =
        [&bytes[..SLOT], slots[1], slots[0], slots[2], &bytes[SLOT + 3 * SLOT_LEN..]].concat();
    let turned = VaultHeader::parse(&turned).unwrap();
    assert_eq!(unlock(&turned, &key_file(1), None).unwrap_err(), VaultError::Tampered);
}

#[test]
fn slots_are_added_removed_and_replaced() {
    let (header, master) = vault();
    let old = slot_of(header, SlotKind::Passphrase);
    let changed = header
        .replace_slot(&env(), master, old, &passphrase("new words"), Argon2Params::FLOOR)
        .unwrap();
    assert_eq!((changed.generation(), changed.slots().len()), (2, 3));
    let old_words = unlock(&changed, &passphrase("open sesame"), None).unwrap_err();
    assert_eq!(old_words, VaultError::BadPassword);
    assert!(is_same(&unlock(&changed, &passphrase("new words"), None).unwrap(), master));
    assert!(is_same(&unlock(&changed, &recovery(), None).unwrap(), master));

    let id = slot_of(&changed, SlotKind::KeyFile);
    let removed = changed.remove_slot(master, id).unwrap();
    assert_eq!((removed.generation(), removed.slots().len()), (3, 2));
    let kind = SlotKind::KeyFile;
    assert_eq!(unlock(&removed, &key_file(1), None).unwrap_err(), VaultError::NoSlot { kind });
    assert_eq!(removed.remove_slot(master, id).unwrap_err(), VaultError::UnknownSlot { id });

    let mut rest = removed;
    let ids: Vec<_> = rest.slots().map(|slot| slot.id).collect();
    rest = rest.remove_slot(master, ids[0]).unwrap();
    assert_eq!(rest.remove_slot(master, ids[1]).unwrap_err(), VaultError::LastSlot);

    let env = Env::simulated(14).0;
    let mut full = header.clone();
    for fill in 0..13 {
        full = full.add_slot(&env, master, &key_file(fill), Argon2Params::FLOOR).unwrap();
    }
    assert_eq!(VaultHeader::parse(&full.encode()).unwrap(), full);
    let error = full.add_slot(&env, master, &key_file(9), Argon2Params::FLOOR).unwrap_err();
    assert_eq!(error, VaultError::TooManySlots);
}

#[test]
fn a_tampered_header_is_not_made_genuine_by_a_change() {
    let (_, master) = vault();
    let lying = VaultHeader::parse(&patched(GENERATION, &9_u64.to_le_bytes())).unwrap();
    let changed = lying.add_slot(&env(), master, &key_file(1), Argon2Params::FLOOR);
    assert_eq!(changed.unwrap_err(), VaultError::Tampered);
    let stranger = MasterKey::random(&Env::simulated(77).0, lying.vault());
    let (header, _) = vault();
    let id = header.slots().next().unwrap().id;
    assert_eq!(header.remove_slot(&stranger, id).unwrap_err(), VaultError::Tampered);
}

#[test]
fn newer_versions_and_other_files_are_told_apart() {
    assert_eq!(
        VaultHeader::parse(&patched(8, &[2])),
        Err(VaultError::VersionTooNew { version: 2 })
    );
    assert_eq!(VaultHeader::parse(&patched(0, b"X")), Err(VaultError::NotAVault));
    assert!(matches!(
        VaultHeader::parse(&patched(GENERATION, &[0; 8])),
        Err(VaultError::Corrupt(_))
    ));
    assert!(matches!(VaultHeader::parse(&patched(SLOT + 159, &[1])), Err(VaultError::Corrupt(_))));
}

#[test]
fn s35_a_low_order_owner_key_is_refused() {
    let mut identity = [0; 32];
    identity[0] = 1;
    assert!(matches!(VaultHeader::parse(&patched(OWNER, &identity)), Err(VaultError::Corrupt(_))));
}

#[test]
fn fingerprints_are_compared_as_typed() {
    let (header, _) = vault();
    let fingerprint = Pin::of(header).fingerprint();
    let text = fingerprint.to_string();
    assert_eq!(text.len(), 24);
    assert!(fingerprint.matches(&text) && fingerprint.matches(&text.to_lowercase()));
    assert!(fingerprint.matches(&text.replace('-', " ")));
    assert!(!fingerprint.matches(&text[..23]) && !fingerprint.matches(&format!("{text}0")));
    assert!(!fingerprint.matches(""));
}

#[test]
fn slot_ids_read_back() {
    let id = SlotId([0, 1, 2, 3, 4, 5, 6, 0xff]);
    assert_eq!(id.to_string(), "00010203040506ff");
    assert_eq!(SlotId::parse("00010203040506FF"), Some(id));
    for text in ["", "1", "+0010203040506ff", "00010203040506fg", "00010203040506ff0"] {
        assert_eq!(SlotId::parse(text), None);
    }
}

/// The header that another implementation made, and its credentials.
mod golden {
    use super::*;
    use crate::crypto::{Key32, PublicKey};
    use crate::golden::{Vector, vectors};
    use crate::vault::slot::{Fresh, Slot};
    use serde_json::Value;

    fn credential(slot: &Value) -> Credential {
        let typed = slot.bytes("typed");
        match slot.number("kind") {
            1 => passphrase(std::str::from_utf8(&typed).unwrap()),
            2 => {
                let code = typed.try_into().unwrap();
                Credential::Recovery(RecoveryCode::new(crate::crypto::Secret::copy_of(&code)))
            }
            3 => Credential::KeyFile(KeyFile::new(Zeroizing::new(typed)).unwrap()),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn every_slot_opens() {
        let vector = &vectors()["vault_header"];
        let bytes = vector.bytes("bytes");
        let header = VaultHeader::parse(&bytes).unwrap();
        assert_eq!(header.generation(), vector.number("generation"));
        assert_eq!(header.encode(), bytes);
        for slot in vector.items("slots") {
            let id = SlotId(slot.array("slot_id"));
            let master = unlock(&header, &credential(slot), Some(id)).unwrap();
            assert_eq!(master.bytes().expose(), &vectors()["keys"].array("mk"));
        }
    }

    #[test]
    fn the_same_inputs_make_the_same_bytes() {
        let (keys, vector) = (&vectors()["keys"], &vectors()["vault_header"]);
        let vault = VaultId(keys.array("vault_id"));
        let master = MasterKey::new(vault, Key32::copy_of(&keys.array("mk")));
        let owner = PublicKey::from_bytes(&keys.array("owner_pk")).unwrap();
        let mut header = VaultHeader {
            vault,
            generation: vector.number("generation"),
            owner,
            slots: vec![],
            mac: [0; 32],
        };
        for slot in vector.items("slots") {
            let fresh = Fresh {
                id: SlotId(slot.array("slot_id")),
                salt: slot.array("salt"),
                nonce: slot.array("nonce"),
                created_s: slot.number("created_s"),
            };
            // Weaker than may be made, so past the check for new slots.
            let argon2 = Argon2Params::new(8 << 10, 1, 1).unwrap();
            let binding = header.binding();
            let made = Slot::wrap(&fresh, binding, &master, &credential(slot), argon2).unwrap();
            header.slots.push(made);
        }
        header.authenticate(&master).unwrap();
        assert_eq!(header.encode(), vector.bytes("bytes"));
    }

    #[test]
    fn recovery_codes_read_and_write_alike() {
        for vector in vectors().items("recovery") {
            let code = RecoveryCode::parse(vector.text("text")).unwrap();
            assert_eq!(code.bytes(), &vector.array("code"));
            assert_eq!(*code.to_text(), vector.text("text"));
        }
    }
}

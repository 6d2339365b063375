//! Names of objects in a store: `docs/FORMAT.md` §4.
//!
//! A name is 128 bits of a keyed hash, so it tells nothing to whoever lacks the
//! key, and everybody who has it can compute the next name to look for.

use super::context::ObjectType;
use super::ids::{Epoch, Incarnation, MachineId, NamespaceId, PackId, hex};
use super::keys::EpochKeys;
use super::secret::Key32;

/// Characters of a name.
pub const NAME_LEN: usize = 32;

/// The name of membership record `n`, under
/// [`MasterKey::membership_name_key`](super::MasterKey::membership_name_key).
#[must_use]
pub fn membership(key: &Key32, ns: NamespaceId, n: u64) -> String {
    object_name(key, ObjectType::Membership, &[&ns.0, &n.to_le_bytes()])
}

/// The name of a pack.
#[must_use]
pub fn pack(keys: &EpochKeys, pack: PackId) -> String {
    object_name(keys.name_key(), ObjectType::Pack, &[&pack.0])
}

/// The name of a segment.
#[must_use]
pub fn segment(keys: &EpochKeys, machine: MachineId, incarnation: Incarnation, seq: u64) -> String {
    let fields: [&[u8]; 3] = [&machine.0, &incarnation.0, &seq.to_le_bytes()];
    object_name(keys.name_key(), ObjectType::Segment, &fields)
}

/// The name of a head.
#[must_use]
pub fn head(keys: &EpochKeys, machine: MachineId, counter: u64) -> String {
    object_name(keys.name_key(), ObjectType::Head, &[&machine.0, &counter.to_le_bytes()])
}

/// The name of an incarnation record, under the keys of epoch 0: a reader must
/// find it before it knows any later epoch.
#[must_use]
pub fn incarnation(first_keys: &EpochKeys, machine: MachineId, index: u32) -> String {
    debug_assert_eq!(first_keys.epoch(), Epoch(0));
    let fields: [&[u8]; 2] = [&machine.0, &index.to_le_bytes()];
    object_name(first_keys.name_key(), ObjectType::Incarnation, &fields)
}

/// The name of a checkpoint record.
#[must_use]
pub fn checkpoint(keys: &EpochKeys, machine: MachineId, n: u64) -> String {
    object_name(keys.name_key(), ObjectType::Checkpoint, &[&machine.0, &n.to_le_bytes()])
}

fn object_name(key: &Key32, object: ObjectType, fields: &[&[u8]]) -> String {
    let mut hasher = blake3::Hasher::new_keyed(key.expose());
    hasher.update(&[object.code()]);
    for field in fields {
        hasher.update(field);
    }
    hex(&hasher.finalize().as_bytes()[..NAME_LEN / 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::EpochSecret;
    use std::collections::HashSet;

    fn keys(epoch: u32) -> EpochKeys {
        let secret = EpochSecret::new(Key32::copy_of(&[7; 32]));
        EpochKeys::new(NamespaceId([1; 16]), Epoch(epoch), &secret)
    }

    #[test]
    fn names_are_lower_case_hex_and_all_different() {
        let (keys, next) = (keys(0), keys(1));
        let (m, i) = (MachineId([2; 16]), Incarnation([3; 8]));
        let mut names = vec![
            membership(&Key32::copy_of(&[8; 32]), NamespaceId([1; 16]), 0),
            pack(&keys, PackId([2; 16])),
            incarnation(&keys, m, 0),
            segment(&next, m, i, 0),
        ];
        for n in 0..50 {
            names.extend([segment(&keys, m, i, n), head(&keys, m, n), checkpoint(&keys, m, n)]);
        }
        let hex =
            |name: &String| name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        assert!(names.iter().all(|name| name.len() == NAME_LEN && hex(name)));
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    }

    #[test]
    fn s20_names_look_uniform() {
        let keys = keys(0);
        let (m, i) = (MachineId([2; 16]), Incarnation([3; 8]));
        let mut counts = [0_u32; 16];
        for seq in 0..2000 {
            for digit in segment(&keys, m, i, seq).chars() {
                counts[digit.to_digit(16).unwrap() as usize] += 1;
            }
        }
        // 64 000 digits, 4 000 of each expected, deviation 61.
        assert!(counts.iter().all(|&count| count.abs_diff(4000) < 350), "{counts:?}");
    }
}

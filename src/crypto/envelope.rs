//! Sealed objects: `docs/FORMAT.md` §5.
//!
//! `salt[32] ‖ commit[32] ‖ nonce[12] ‖ ciphertext ‖ tag[16]`, where every object
//! has a key of its own, derived from a random salt. The commitment is what makes
//! AES-GCM safe to try with several epochs' keys: it is compared in constant time
//! before anything is decrypted, and one ciphertext cannot have it under two keys.

use super::aead;
use super::context::{Context, ObjectType};
use super::ids::Epoch;
use super::kdf::{derive, derive_public, extract};
use super::keys::EpochKeys;
use super::secret::Key32;
use super::{Corrupt, CorruptKind, NONCE_LEN, Nonce, TAG_LEN};
use crate::env::Env;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Bytes a sealed object has more than its (padded) plaintext.
pub const OVERHEAD: usize = SALT_LEN + COMMIT_LEN + NONCE_LEN + TAG_LEN;

/// Epochs that are tried at most to open one object.
pub const EPOCHS_TRIED_MAX: usize = 64;

const SALT_LEN: usize = 32;
const COMMIT_LEN: usize = 32;

/// Padded plaintexts have at least this many bytes.
const PADDED_LEN_MIN: usize = 1024;

/// Bytes of the length in front of a padded plaintext.
const LENGTH_LEN: usize = 4;

/// A plaintext that is longer than its type allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {object} of {len} bytes is too long: {max} are allowed")]
pub struct TooLong {
    /// What it is.
    pub object: ObjectType,
    /// Its length, bytes.
    pub len: usize,
    /// The longest allowed, bytes.
    pub max: usize,
}

/// An object that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The epoch it was sealed in.
    pub epoch: Epoch,
    /// What was sealed.
    pub plaintext: Zeroizing<Vec<u8>>,
}

/// How the plaintexts of a type are sealed.
struct Rules {
    plaintext_max: usize,
    is_padded: bool,
}

impl ObjectType {
    fn rules(self) -> Rules {
        let (plaintext_max, is_padded) = match self {
            Self::Membership => (64 << 10, true),
            Self::OwnerWrap | Self::PreviousSecret => (32, false),
            Self::Segment => (256 << 10, true),
            Self::Head => (2 << 10, true),
            Self::Incarnation => (1 << 10, true),
            Self::Checkpoint => (256 << 10, true),
            // Packs and blocks have formats of their own and no `Context`.
            Self::Pack | Self::DataBlock | Self::TreeNode => (0, false),
        };
        Rules { plaintext_max, is_padded }
    }

    /// The longest plaintext, bytes.
    #[must_use]
    pub fn plaintext_max(self) -> usize {
        self.rules().plaintext_max
    }

    /// The longest sealed object of this type, bytes; nobody needs to fetch more.
    #[must_use]
    pub fn sealed_max(self) -> usize {
        OVERHEAD + self.rules().stored_len(self.plaintext_max())
    }
}

impl Rules {
    fn stored_len(&self, plaintext_len: usize) -> usize {
        if self.is_padded { padded_len(plaintext_len) } else { plaintext_len }
    }
}

fn padded_len(plaintext_len: usize) -> usize {
    padme((LENGTH_LEN + plaintext_len).max(PADDED_LEN_MIN))
}

/// Rounds a length up so that it tells little: to a multiple of 2^(E-S), with
/// E = floor(log2 len) and S = floor(log2 E) + 1.
///
/// # Panics
///
/// For lengths below 2, which have no E with a logarithm.
#[must_use]
pub fn padme(len: usize) -> usize {
    let exponent = len.ilog2();
    let significant = exponent.ilog2() + 1;
    len.next_multiple_of(1 << (exponent - significant))
}

/// Seals `plaintext` with the key that the epoch has for its type.
///
/// # Errors
///
/// [`TooLong`] if the type does not allow that length.
pub fn seal(
    env: &Env,
    keys: &EpochKeys,
    context: &Context,
    plaintext: &[u8],
) -> Result<Vec<u8>, TooLong> {
    seal_under(env, keys.sealing_key(context.object()), keys.epoch(), context, plaintext)
}

/// Seals `plaintext` under a given key.
///
/// # Errors
///
/// [`TooLong`] if the type does not allow that length.
pub fn seal_under(
    env: &Env,
    key: &Key32,
    epoch: Epoch,
    context: &Context,
    plaintext: &[u8],
) -> Result<Vec<u8>, TooLong> {
    let fresh = Fresh { salt: env.random_array(), nonce: env.random_array() };
    seal_with(&fresh, key, epoch, context, plaintext)
}

/// The random part of a sealed object.
pub(crate) struct Fresh {
    pub(crate) salt: [u8; SALT_LEN],
    pub(crate) nonce: Nonce,
}

pub(crate) fn seal_with(
    fresh: &Fresh,
    key: &Key32,
    epoch: Epoch,
    context: &Context,
    plaintext: &[u8],
) -> Result<Vec<u8>, TooLong> {
    let (object, len) = (context.object(), plaintext.len());
    let rules = object.rules();
    if len > rules.plaintext_max {
        return Err(TooLong { object, len, max: rules.plaintext_max });
    }
    let aad = context.bytes(epoch);
    let (commit, message_key) = message_keys(key, &fresh.salt, &aad);

    let stored_len = rules.stored_len(len);
    let mut sealed = Vec::with_capacity(OVERHEAD + stored_len);
    sealed.extend_from_slice(&fresh.salt);
    sealed.extend_from_slice(&commit);
    sealed.extend_from_slice(&fresh.nonce);
    let start = sealed.len();
    if rules.is_padded {
        let length = u32::try_from(len).expect("checked against the type's maximum");
        sealed.extend_from_slice(&length.to_le_bytes());
    }
    sealed.extend_from_slice(plaintext);
    sealed.resize(start + stored_len, 0);
    aead::AeadKey::new(&message_key).seal_tail(&fresh.nonce, &aad, &mut sealed, start);
    Ok(sealed)
}

fn message_keys(key: &Key32, salt: &[u8; SALT_LEN], context: &[u8]) -> ([u8; COMMIT_LEN], Key32) {
    let prk = extract(salt, key.expose());
    (derive_public(&prk, "commit", &[context]), derive(&prk, "key", &[context]))
}

/// Opens an object with the keys of the epochs given, newest first; at most
/// [`EPOCHS_TRIED_MAX`] are tried.
///
/// # Errors
///
/// [`Corrupt`] if it is not what the context says, or not as it was sealed.
pub fn open<'k>(
    epochs: impl IntoIterator<Item = &'k EpochKeys>,
    context: &Context,
    sealed: &[u8],
) -> Result<Opened, Corrupt> {
    let object = context.object();
    let keys = epochs.into_iter().map(|keys| (keys.epoch(), keys.sealing_key(object)));
    open_under(keys, context, sealed)
}

/// Opens an object with the keys given.
///
/// # Errors
///
/// [`Corrupt`] if it is not what the context says, or not as it was sealed.
pub fn open_under<'k>(
    keys: impl IntoIterator<Item = (Epoch, &'k Key32)>,
    context: &Context,
    sealed: &[u8],
) -> Result<Opened, Corrupt> {
    let object = context.object();
    let corrupt = |kind| object.corrupt(kind);
    let Some(parts) = Parts::split(object, sealed) else {
        return Err(corrupt(CorruptKind::Length));
    };
    for (epoch, key) in keys.into_iter().take(EPOCHS_TRIED_MAX) {
        let aad = context.bytes(epoch);
        let (commit, message_key) = message_keys(key, parts.salt, &aad);
        if !bool::from(commit.ct_eq(parts.commit)) {
            continue;
        }
        let mut plaintext = Zeroizing::new(parts.ciphertext_and_tag.to_vec());
        let opened = aead::open_in_place(&message_key, parts.nonce, &aad, &mut plaintext);
        let len = opened.map_err(|_| corrupt(CorruptKind::Authentication))?.len();
        plaintext.truncate(len);
        if object.rules().is_padded {
            strip_padding(&mut plaintext).ok_or_else(|| corrupt(CorruptKind::Padding))?;
        }
        if plaintext.len() > object.plaintext_max() {
            return Err(corrupt(CorruptKind::Length));
        }
        return Ok(Opened { epoch, plaintext });
    }
    Err(corrupt(CorruptKind::Commitment))
}

/// A sealed object's fields.
struct Parts<'a> {
    salt: &'a [u8; SALT_LEN],
    commit: &'a [u8; COMMIT_LEN],
    nonce: &'a Nonce,
    ciphertext_and_tag: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Answers `None` if no object of the type has that length.
    fn split(object: ObjectType, sealed: &'a [u8]) -> Option<Self> {
        let shortest = OVERHEAD + object.rules().stored_len(0);
        if !(shortest..=object.sealed_max()).contains(&sealed.len()) {
            return None;
        }
        let (salt, rest) = sealed.split_first_chunk()?;
        let (commit, rest) = rest.split_first_chunk()?;
        let (nonce, ciphertext_and_tag) = rest.split_first_chunk()?;
        Some(Self { salt, commit, nonce, ciphertext_and_tag })
    }
}

/// Leaves the plaintext; answers `None` if it was not padded as prescribed.
fn strip_padding(padded: &mut Vec<u8>) -> Option<()> {
    let length = u32::from_le_bytes(*padded.first_chunk::<LENGTH_LEN>()?);
    let len = usize::try_from(length).ok()?;
    let padding = padded.get(LENGTH_LEN.checked_add(len)?..)?;
    if padded.len() != padded_len(len) || padding.iter().any(|&byte| byte != 0) {
        return None;
    }
    padded.drain(..LENGTH_LEN);
    padded.truncate(len);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::ids::{Incarnation, MachineId, NamespaceId};
    use crate::crypto::keys::EpochSecret;

    const NS: NamespaceId = NamespaceId([1; 16]);
    const MACHINE: MachineId = MachineId([2; 16]);

    fn env() -> Env {
        Env::simulated(1).0
    }

    fn epoch_keys(ns: NamespaceId, epoch: u32, secret: u8) -> EpochKeys {
        EpochKeys::new(ns, Epoch(epoch), &EpochSecret::new(Key32::copy_of(&[secret; 32])))
    }

    fn segment_context(seq: u64) -> Context {
        Context::segment(NS, MACHINE, Incarnation([3; 8]), seq)
    }

    fn failure(keys: &EpochKeys, context: &Context, sealed: &[u8]) -> CorruptKind {
        let error = open([keys], context, sealed).unwrap_err();
        assert_eq!(error.object, context.object());
        error.kind
    }

    #[test]
    fn what_is_sealed_opens_and_is_padded() {
        let (env, keys) = (env(), epoch_keys(NS, 0, 7));
        for (len, stored) in
            [(0, 1024), (1020, 1024), (1021, 1088), (5000, 5120), (262_144, 270_336)]
        {
            let plaintext = vec![0x5a; len];
            let sealed = seal(&env, &keys, &segment_context(9), &plaintext).unwrap();
            assert_eq!(sealed.len(), OVERHEAD + stored, "plaintext of {len} bytes");
            let opened = open([&keys], &segment_context(9), &sealed).unwrap();
            assert_eq!(*opened.plaintext, plaintext);
        }
        let error = seal(&env, &keys, &segment_context(9), &vec![0; 262_145]).unwrap_err();
        assert_eq!((error.len, error.max), (262_145, 262_144));
    }

    #[test]
    fn exact_types_are_not_padded() {
        let (env, keys) = (env(), epoch_keys(NS, 1, 7));
        let context = Context::previous_secret(NS, Epoch(0));
        let sealed = seal(&env, &keys, &context, &[8; 32]).unwrap();
        assert_eq!(sealed.len(), 124);
        assert_eq!(*open([&keys], &context, &sealed).unwrap().plaintext, [8; 32]);
        assert!(seal(&env, &keys, &context, &[8; 33]).is_err());
    }

    #[test]
    fn padme_rounds_as_defined() {
        let known =
            [(2, 2), (9, 10), (1024, 1024), (1025, 1088), (65_540, 67_584), (1 << 20, 1 << 20)];
        for (len, padded) in known {
            assert_eq!(padme(len), padded, "of {len}");
        }
        for len in 1024..20_000 {
            let padded = padme(len);
            assert!(padded >= len && padded * 100 <= len * 112 && padme(padded) == padded);
        }
    }

    #[test]
    fn the_epoch_is_found_and_the_number_of_tries_is_bounded() {
        let env = env();
        let epochs: Vec<_> = (0..70).rev().map(|e| epoch_keys(NS, e, 7)).collect();
        let sealed_in = |keys| seal(&env, keys, &segment_context(0), b"x").unwrap();
        let newest = open(&epochs, &segment_context(0), &sealed_in(&epochs[0])).unwrap();
        assert_eq!(newest.epoch, Epoch(69));
        let last = open(&epochs, &segment_context(0), &sealed_in(&epochs[63])).unwrap();
        assert_eq!(last.epoch, Epoch(6));
        let beyond = open(&epochs, &segment_context(0), &sealed_in(&epochs[64])).unwrap_err();
        assert_eq!(beyond.kind, CorruptKind::Commitment);
    }

    #[test]
    fn s01_any_flipped_bit_is_corrupt() {
        let keys = epoch_keys(NS, 0, 7);
        let sealed = seal(&env(), &keys, &segment_context(0), b"hello").unwrap();
        for byte in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[byte] ^= 1 << (byte % 8);
            let kind = failure(&keys, &segment_context(0), &changed);
            let expected =
                if byte < 64 { CorruptKind::Commitment } else { CorruptKind::Authentication };
            assert_eq!(kind, expected, "byte {byte}");
        }
    }

    #[test]
    fn s02_objects_do_not_open_in_each_others_place() {
        let keys = epoch_keys(NS, 0, 7);
        let sealed = seal(&env(), &keys, &segment_context(4), b"hello").unwrap();
        let others = [
            segment_context(5),
            Context::segment(NS, MachineId([9; 16]), Incarnation([3; 8]), 4),
            Context::segment(NS, MACHINE, Incarnation([9; 8]), 4),
        ];
        for other in others {
            assert_eq!(failure(&keys, &other, &sealed), CorruptKind::Commitment);
        }
    }

    #[test]
    fn s04_truncated_sealed_object_is_corrupt() {
        let keys = epoch_keys(NS, 0, 7);
        let sealed = seal(&env(), &keys, &segment_context(0), b"hello").unwrap();
        for len in 0..sealed.len() {
            assert_eq!(failure(&keys, &segment_context(0), &sealed[..len]), CorruptKind::Length);
        }
        let longer = [&sealed[..], &[0]].concat();
        assert_eq!(failure(&keys, &segment_context(0), &longer), CorruptKind::Authentication);
        let huge = vec![0; ObjectType::Segment.sealed_max() + 1];
        assert_eq!(failure(&keys, &segment_context(0), &huge), CorruptKind::Length);
    }

    #[test]
    fn s05_an_object_of_another_namespace_or_vault_is_corrupt() {
        let env = env();
        let other_ns = NamespaceId([9; 16]);
        let (keys, other_keys) = (epoch_keys(NS, 0, 7), epoch_keys(other_ns, 0, 7));
        let context = Context::head(NS, MACHINE, 0);
        let sealed = seal(&env, &keys, &context, b"hello").unwrap();
        assert_eq!(failure(&other_keys, &context, &sealed), CorruptKind::Commitment);
        let elsewhere = Context::head(other_ns, MACHINE, 0);
        assert_eq!(failure(&keys, &elsewhere, &sealed), CorruptKind::Commitment);
        assert_eq!(failure(&epoch_keys(NS, 0, 8), &context, &sealed), CorruptKind::Commitment);
    }

    #[test]
    fn s06_type_confusion_is_corrupt() {
        // The same key and the same fields: only the type differs.
        let (env, key) = (env(), Key32::copy_of(&[7; 32]));
        let head = Context::head(NS, MACHINE, 3);
        let checkpoint = Context::checkpoint(NS, MACHINE, 3);
        let sealed = seal_under(&env, &key, Epoch(0), &head, b"hello").unwrap();
        let error = open_under([(Epoch(0), &key)], &checkpoint, &sealed).unwrap_err();
        assert_eq!(error.kind, CorruptKind::Commitment);
        assert!(open_under([(Epoch(0), &key)], &head, &sealed).is_ok());
    }

    #[test]
    fn s07_a_ciphertext_opens_under_one_key_only() {
        // Even a ciphertext that AES-GCM would accept under a second key fails,
        // because its commitment belongs to one key. Here the second key's
        // message is made valid in all but the commitment.
        let (first, second) = (Key32::copy_of(&[1; 32]), Key32::copy_of(&[2; 32]));
        let context = Context::head(NS, MACHINE, 0);
        let fresh = Fresh { salt: [4; 32], nonce: [5; 12] };
        let honest = seal_with(&fresh, &first, Epoch(0), &context, b"x").unwrap();
        let mut crafted = seal_with(&fresh, &second, Epoch(0), &context, b"x").unwrap();
        crafted[32..64].copy_from_slice(&honest[32..64]);
        for key in [&first, &second] {
            assert!(open_under([(Epoch(0), key)], &context, &crafted).is_err());
        }
        let both = [(Epoch(0), &second), (Epoch(0), &first)];
        let error = open_under(both, &context, &crafted).unwrap_err();
        assert_eq!(error.kind, CorruptKind::Authentication);
        assert!(open_under(both, &context, &honest).is_ok());
    }

    #[test]
    fn padding_has_one_form() {
        let seal_raw = |padded: &[u8]| {
            let key = Key32::copy_of(&[1; 32]);
            let context = Context::head(NS, MACHINE, 0);
            let aad = context.bytes(Epoch(0));
            let (commit, message_key) = message_keys(&key, &[4; 32], &aad);
            let mut message = padded.to_vec();
            aead::seal_in_place(&message_key, &[5; 12], &aad, &mut message);
            let sealed = [&[4; 32][..], &commit, &[5; 12], &message].concat();
            open_under([(Epoch(0), &key)], &context, &sealed).map(|opened| opened.plaintext.len())
        };
        let corrupt = |kind| Err(ObjectType::Head.corrupt(kind));
        let padded = |length: u32, total: usize| {
            let mut bytes = length.to_le_bytes().to_vec();
            bytes.resize(total, 0);
            bytes
        };
        assert_eq!(seal_raw(&padded(5, 1024)), Ok(5));
        assert_eq!(seal_raw(&padded(5, 1088)), corrupt(CorruptKind::Padding));
        assert_eq!(seal_raw(&padded(1021, 1024)), corrupt(CorruptKind::Padding));
        assert_eq!(seal_raw(&padded(u32::MAX, 1024)), corrupt(CorruptKind::Padding));
        let mut dirty = padded(5, 1024);
        dirty[1023] = 1;
        assert_eq!(seal_raw(&dirty), corrupt(CorruptKind::Padding));
    }

    #[test]
    fn s21_salts_and_nonces_do_not_repeat() {
        let (env, keys) = (Env::real(), epoch_keys(NS, 0, 7));
        let mut seen = std::collections::HashSet::new();
        for _ in 0..500 {
            let sealed = seal(&env, &keys, &segment_context(0), b"x").unwrap();
            assert!(seen.insert(sealed[..32].to_vec()) && seen.insert(sealed[64..76].to_vec()));
        }
    }
}

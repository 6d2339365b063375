//! A membership record as an object of the store.

use super::body::{self, Body, MEMBERS_MAX};
use super::{Draft, MembershipError, MembershipRecord, rule};
use crate::codec::Reader;
use crate::codec::Writer;
use crate::crypto::envelope::{self, Fresh as SealFresh, Opened};
use crate::crypto::{
    Context, Corrupt, CorruptKind, Epoch, EpochKeys, EpochSecret, Key32, MasterKey, NamespaceId,
    NamespaceKeys, ObjectType, Secret, SignatureKind,
};
use crate::env::Env;
use zeroize::Zeroizing;

/// Places for wraps come in steps of this many.
pub(super) const PLACES_PER_STEP: usize = 16;

const SALT_LEN: usize = 32;
const OWNER_WRAP_LEN: usize = 124;
const STEP_LEN: usize = 80 * PLACES_PER_STEP;
const STEPS_MAX: usize = MEMBERS_MAX / PLACES_PER_STEP;

/// No record is longer: every step, and the longest body.
pub(super) const LEN_MAX: usize =
    SALT_LEN + OWNER_WRAP_LEN + STEPS_MAX * STEP_LEN + envelope::OVERHEAD + (66 << 10);

/// The random part of a record.
pub(super) struct Fresh {
    pub(super) salt: [u8; SALT_LEN],
    pub(super) owner_wrap: SealFresh,
    pub(super) wraps: Vec<u8>,
    pub(super) body: SealFresh,
}

impl Fresh {
    pub(super) fn new(env: &Env, wrap_steps: u16) -> Self {
        let mut wraps = vec![0; usize::from(wrap_steps) * STEP_LEN];
        env.fill_random(&mut wraps);
        let fresh = || SealFresh { salt: env.random_array(), nonce: env.random_array() };
        Self { salt: env.random_array(), owner_wrap: fresh(), wraps, body: fresh() }
    }
}

/// Answers the object and the record's hash.
pub(super) fn seal(
    fresh: &Fresh,
    master: &MasterKey,
    draft: &Draft,
    keys: &EpochKeys,
) -> Result<(Vec<u8>, [u8; 32]), MembershipError> {
    let (ns, epoch) = (draft.ns, draft.epoch);
    let wrap_key = master.epoch_wrap_key(ns, epoch);
    let context = Context::owner_wrap(ns, &fresh.salt);
    let secret = draft.secret.key().expose();
    let owner_wrap = envelope::seal_with(&fresh.owner_wrap, &wrap_key, epoch, &context, secret)?;
    let mut object = [&fresh.salt[..], &owner_wrap, &fresh.wraps].concat();

    let mut plaintext = encode(draft, &object);
    master.owner_signing_key().sign_onto(SignatureKind::Membership, &mut plaintext);
    let hash = *blake3::hash(&plaintext).as_bytes();
    let context = Context::membership(ns, draft.n);
    let key = keys.sealing_key(ObjectType::Membership);
    object.extend(envelope::seal_with(&fresh.body, key, epoch, &context, &plaintext)?);
    Ok((object, hash))
}

/// `wrapped` is everything of the object in front of the sealed body.
fn encode(draft: &Draft, wrapped: &[u8]) -> Zeroizing<Vec<u8>> {
    let body = &draft.body;
    // Room for all of it, so that the namespace's secret is in one place only.
    let len_max = 512 + body.members.len() * 256 + body.cutoffs.len() * 64;
    let mut writer = Writer::with_capacity(len_max);
    writer.raw(&draft.ns.0).u64(draft.n).u32(draft.epoch.0).raw(&body.prev_hash);
    writer.u16(draft.wrap_steps()).raw(blake3::hash(wrapped).as_bytes());
    writer.u32(body.ns_index).lp(body.name.as_bytes());
    writer.raw(draft.namespace_keys.secret().expose());
    writer.u32(body.block_size).u8(body.format_min).u64(body.vault_generation_min);
    body.write_rest(&mut writer);
    Zeroizing::new(writer.into_vec())
}

/// Opens record `n` as the owner, in one of the epochs that it may have.
pub(super) fn open<const N: usize>(
    master: &MasterKey,
    ns: NamespaceId,
    n: u64,
    epochs: [Epoch; N],
    object: &[u8],
) -> Result<MembershipRecord, MembershipError> {
    let too_short = ObjectType::Membership.corrupt(CorruptKind::Length);
    let (salt, rest) = object.split_first_chunk().ok_or(too_short)?;
    let owner_wrap = rest.get(..OWNER_WRAP_LEN).ok_or(too_short)?;
    let (epoch, secret) = open_owner_wrap(master, ns, epochs, salt, owner_wrap)?;
    let keys = EpochKeys::new(ns, epoch, &secret);
    let (opened, steps) = open_body(&keys, &Context::membership(ns, n), object)?;

    let owner = master.owner_signing_key();
    let signed = owner.public().verify_signed(SignatureKind::Membership, &opened.plaintext)?;
    let wrapped = &object[..wrapped_len(steps)];
    let (body, nsk) = decode(signed, &Place { ns, n, epoch, steps, wrapped })?;
    body.check()?;
    Ok(MembershipRecord {
        ns,
        n,
        epoch,
        hash: *blake3::hash(&opened.plaintext).as_bytes(),
        body,
        secret,
        keys,
        namespace_keys: NamespaceKeys::new(nsk),
    })
}

fn open_owner_wrap<const N: usize>(
    master: &MasterKey,
    ns: NamespaceId,
    epochs: [Epoch; N],
    salt: &[u8; SALT_LEN],
    owner_wrap: &[u8],
) -> Result<(Epoch, EpochSecret), Corrupt> {
    let keys = epochs.map(|epoch| (epoch, master.epoch_wrap_key(ns, epoch)));
    let keys = keys.iter().map(|(epoch, key)| (*epoch, key));
    let opened = envelope::open_under(keys, &Context::owner_wrap(ns, salt), owner_wrap)?;
    let secret = secret_of(&opened, ObjectType::OwnerWrap)?;
    Ok((opened.epoch, secret))
}

/// Opens the secret of the epoch before.
pub(super) fn open_previous(
    keys: &EpochKeys,
    previous: Epoch,
    sealed: &[u8],
) -> Result<EpochSecret, Corrupt> {
    let context = Context::previous_secret(keys.namespace(), previous);
    secret_of(&envelope::open([keys], &context, sealed)?, ObjectType::PreviousSecret)
}

fn secret_of(opened: &Opened, object: ObjectType) -> Result<EpochSecret, Corrupt> {
    let bytes = <&[u8; 32]>::try_from(&opened.plaintext[..]);
    let bytes = bytes.map_err(|_| object.corrupt(CorruptKind::Length))?;
    Ok(EpochSecret::new(Secret::copy_of(bytes)))
}

fn wrapped_len(steps: usize) -> usize {
    SALT_LEN + OWNER_WRAP_LEN + steps * STEP_LEN
}

/// Finds where the wraps end. The length alone does not tell, as padded bodies
/// have many lengths; the commitment does, as it fits in one place only.
fn open_body(
    keys: &EpochKeys,
    context: &Context,
    object: &[u8],
) -> Result<(Opened, usize), Corrupt> {
    for steps in 1..=STEPS_MAX {
        let Some(sealed) = object.get(wrapped_len(steps)..) else { break };
        match envelope::open([keys], context, sealed) {
            Ok(opened) => return Ok((opened, steps)),
            Err(Corrupt { kind: CorruptKind::Commitment | CorruptKind::Length, .. }) => {}
            Err(corrupt) => return Err(corrupt),
        }
    }
    Err(ObjectType::Membership.corrupt(CorruptKind::Commitment))
}

/// What is known of a record before its body is read.
struct Place<'a> {
    ns: NamespaceId,
    n: u64,
    epoch: Epoch,
    steps: usize,
    wrapped: &'a [u8],
}

fn decode(bytes: &[u8], place: &Place<'_>) -> Result<(Body, Key32), MembershipError> {
    let mut reader = Reader::new(bytes);
    let is_place = reader.array("namespace")? == place.ns.0
        && reader.u64("record number")? == place.n
        && reader.u32("epoch")? == place.epoch.0;
    rule(is_place, "it belongs somewhere else")?;
    let prev_hash = reader.array("previous record")?;
    let steps = usize::from(reader.u16("wrap steps")?);
    let wraps_hash: [u8; 32] = reader.array("wraps hash")?;
    let are_wraps = steps == place.steps && wraps_hash == *blake3::hash(place.wrapped).as_bytes();
    rule(are_wraps, "the wraps are not those the owner signed")?;

    let ns_index = reader.u32("namespace number")?;
    let name = body::read_name(&mut reader)?;
    let mut nsk = Zeroizing::new(reader.array("namespace secret")?);
    let nsk = Secret::take(&mut nsk);
    let block_size = reader.u32("block size")?;
    let format_min = reader.u8("format version")?;
    let vault_generation_min = reader.u64("vault generation")?;
    let rest = body::read_rest(&mut reader)?;
    reader.finish("membership record")?;
    let body = Body {
        prev_hash,
        ns_index,
        name,
        block_size,
        format_min,
        vault_generation_min,
        created: rest.created,
        previous_secret: rest.previous_secret,
        members: rest.members,
        cutoffs: rest.cutoffs,
    };
    Ok((body, nsk))
}

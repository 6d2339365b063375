//! S01 to S06: every object of a vault damaged, cut, exchanged, put back or taken away.

use super::adversary::{
    BLOCK, Kind, Sample, Seen, each, is_a_state, key_file, open_fresh, scratch, showing,
};
use super::vault::{World, cx, name, noise, run};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use tgcryptfs::crypto::block::{self, BlockHead, BlockType, block_id};
use tgcryptfs::crypto::compress::Codec;
use tgcryptfs::crypto::{BlockId, Context, EpochKeys, MachineId, envelope, names};
use tgcryptfs::data::pack::{DirEntry, HEADER_LEN, PackDir, TRAILER_LEN};
use tgcryptfs::engine::{Engine, Error, Silent};
use tgcryptfs::log::object_name;
use tgcryptfs::store::ObjectName;
use tgcryptfs::vault::{MembershipRecord, VaultError, VaultHeader, unlock};
use vfs::{At, ErrorKind, Ino, Vfs};

/// Where to damage an object of this length: all of its beginning and end, where salts,
/// commitments, nonces, trailers and tags lie, and samples of what is between.
fn places(len: usize) -> Vec<usize> {
    let sampled = (0..len).step_by((len / 16).max(1));
    let ends = (0..len.min(96)).step_by(12).chain((len.saturating_sub(80)..len).step_by(16));
    sampled.chain(ends).chain([len - 1]).collect::<BTreeSet<_>>().into_iter().collect()
}

fn flipped(body: &[u8], at: usize) -> Bytes {
    let mut body = body.to_vec();
    body[at] ^= 1 << (at % 8);
    body.into()
}

/// What may come of an object of this kind that is not what it should be. Answers
/// whether anything was noticed.
fn judge(sample: &Sample, target: &ObjectName, seen: &Seen, what: &str) -> bool {
    let kind = sample.kind(target);
    match seen {
        Seen::Shown(shown) => {
            let newest = std::iter::once(sample.files());
            assert!(is_a_state(shown, newest), "{what}: wrong or missing data");
            let lost = shown.values().any(Result::is_err);
            // Nothing but packs of data is needed and found out later.
            assert!(!lost || kind == Kind::DataPack, "{what}: files are lost");
            lost
        }
        Seen::Refused(error) => {
            let is_named = error.to_string().contains(target.as_str());
            let is_right = match kind {
                Kind::Header => matches!(error, Error::Vault(_)),
                Kind::Membership | Kind::Incarnation | Kind::Segment | Kind::Head => is_named,
                Kind::Checkpoint | Kind::NodePack | Kind::DataPack => false,
            };
            assert!(is_right, "{what}: {error:?}");
            true
        }
    }
}

/// Shows each variant of each object to a machine that knows nothing. Answers the kinds
/// of which something was noticed.
fn attack(sample: &Sample, variants: &[(ObjectName, Bytes, String)]) -> BTreeSet<Kind> {
    let noticed = Mutex::new(BTreeSet::new());
    each(variants, async |(name, body, what)| {
        let what = format!("{:?} {name} {what}", sample.kind(name));
        let seen = sample.look(&sample.with(name, Some(body.clone()))).await;
        if judge(sample, name, &seen, &what) {
            noticed.lock().unwrap().insert(sample.kind(name));
        }
    });
    noticed.into_inner().unwrap()
}

/// What is found out while a vault is opened, or a file is read.
fn needed() -> BTreeSet<Kind> {
    use Kind::{DataPack, Head, Header, Incarnation, Membership, Segment};
    [Header, Membership, Incarnation, Segment, Head, DataPack].into()
}

#[test]
fn s01_any_bit_of_any_object() {
    let sample = run(Sample::new());
    let flips = sample.objects.iter().flat_map(|(name, body)| {
        let flip = |at| (*name, flipped(body, at), format!("byte {at} of {}", body.len()));
        places(body.len()).into_iter().map(flip)
    });
    let flips: Vec<_> = flips.collect();
    assert!(flips.len() > 500, "{}", flips.len());
    assert_eq!(attack(&sample, &flips), needed());
}

/// The same for every single byte, without the engine around the codecs.
#[test]
fn s01_every_byte_of_every_sealed_object_is_authenticated() {
    let sample = run(Sample::new());
    let insider = &sample.insider;
    let (master, keys) = (&insider.master, [&insider.keys]);
    let name_key = master.membership_name_key(insider.keys.namespace());
    let record_name = |n| names::membership(&name_key, insider.keys.namespace(), n);
    let opens_as_record = |n: usize, body: &[u8]| match n {
        0 => MembershipRecord::open_first(master, 0, body).is_ok(),
        n => insider.chain[n - 1].open_next(master, body).is_ok(),
    };
    let opens = |name: &ObjectName, body: &[u8]| match sample.kind(name) {
        Header => VaultHeader::parse(body)
            .and_then(|header| unlock(&header, &key_file(), None).map(drop))
            .is_ok(),
        Membership => {
            let mut numbers = 0..insider.chain.len();
            let n = numbers.find(|n| object_name(&record_name(*n as u64)) == *name).unwrap();
            opens_as_record(n, body)
        }
        Incarnation | Segment | Head | Checkpoint => {
            envelope::open(keys, &insider.contexts[name], body).is_ok()
        }
        Kind::NodePack | Kind::DataPack => unreachable!("packs have parts"),
    };
    let mut opened = BTreeSet::new();
    for (name, body) in &sample.objects {
        let kind = sample.kind(name);
        // The first header has no slot for the key that is tried.
        if matches!(kind, Kind::NodePack | Kind::DataPack) || *name == ObjectName::vault(1) {
            continue;
        }
        assert!(opens(name, body), "{kind:?} {name} does not open as it is");
        opened.insert(kind);
        for at in 0..body.len() {
            assert!(!opens(name, &flipped(body, at)), "{kind:?} {name}, byte {at}");
        }
    }
    use Kind::{Checkpoint, Head, Header, Incarnation, Membership, Segment};
    assert_eq!(opened, [Header, Membership, Incarnation, Segment, Head, Checkpoint].into());
}

/// Every byte of a pack is of its header, a block, the directory or the trailer; each of
/// them opens as it was sealed only.
#[test]
fn s01_every_part_of_every_pack_is_authenticated() {
    let sample = run(Sample::new());
    let keys = &sample.insider.keys;
    let (header_len, trailer_len) = (HEADER_LEN as usize, TRAILER_LEN as usize);
    let mut kinds = BTreeSet::new();
    for (name, id) in &sample.insider.packs {
        let body = &sample.objects[name];
        let (header, size) = (&body[..header_len], body.len() as u64);
        let trailer = &body[body.len() - trailer_len..];
        let dir = PackDir::open(keys, *id, header).unwrap();
        for at in 0..header.len() {
            assert!(PackDir::open(keys, *id, &flipped(header, at)).is_err(), "header, byte {at}");
        }
        let place = dir.trailer(trailer, size).unwrap();
        for at in 0..trailer.len() {
            assert!(dir.trailer(&flipped(trailer, at), size).is_err(), "trailer, byte {at}");
        }
        let stored = &body[place.offset as usize..][..place.len as usize];
        for at in 0..stored.len() {
            assert!(dir.entries(&flipped(stored, at), place).is_err(), "directory, byte {at}");
        }
        let mut covered = header_len + stored.len() + trailer_len;
        for (id, place) in dir.entries(stored, place).unwrap() {
            let record = &body[place.offset as usize..][..place.sealed_len as usize];
            covered += record.len();
            let is_data = place.kind == BlockType::Data.code();
            let block_type = if is_data { BlockType::Data } else { BlockType::Tree };
            let codec = Codec::from_code(place.codec).unwrap();
            let head = BlockHead { block_type, id, codec, plain_len: place.plain_len };
            block::open(keys, &head, record).unwrap();
            for at in places(record.len()) {
                let result = block::open(keys, &head, &flipped(record, at));
                assert!(result.is_err(), "a block in {name}, byte {at}");
            }
        }
        assert_eq!(covered, body.len(), "{name} has bytes that are of nothing");
        kinds.insert(sample.kind(name));
    }
    assert_eq!(kinds, [Kind::NodePack, Kind::DataPack].into());
}

/// The records of a pack, through its directory.
fn records(sample: &Sample, pack: &ObjectName) -> Vec<DirEntry> {
    let (body, id) = (&sample.objects[pack], sample.insider.packs[pack]);
    let dir = PackDir::open(&sample.insider.keys, id, &body[..HEADER_LEN as usize]).unwrap();
    let trailer = &body[body.len() - TRAILER_LEN as usize..];
    let place = dir.trailer(trailer, body.len() as u64).unwrap();
    let stored = &body[place.offset as usize..][..place.len as usize];
    dir.entries(stored, place).unwrap()
}

/// Which part of which file has these bytes, as block ids.
fn blocks_of(sample: &Sample) -> BTreeMap<BlockId, (String, usize)> {
    let keys = sample.insider.namespace_keys();
    let mut found = BTreeMap::new();
    for (file, data) in sample.files() {
        for (index, block) in data.chunks(BLOCK).enumerate() {
            let id = block_id(keys, BlockType::Data, block);
            found.insert(id, (file.clone(), index));
        }
    }
    found
}

async fn read_block(engine: &Engine, file: &str, index: usize) -> vfs::Result<Vec<u8>> {
    let ino = engine.lookup(cx(), Ino::ROOT, name(file)).await?.attr.ino;
    let read = engine.read(cx(), At::Ino(ino), (index * BLOCK) as u64, BLOCK as u32).await?;
    Ok(read.data.into_contiguous().to_vec())
}

#[test]
fn s01_a_flipped_bit_costs_the_range_of_its_block_and_no_more() {
    let sample = run(Sample::new());
    let blocks = blocks_of(&sample);
    let packs = sample.insider.of_kind(Kind::DataPack);
    let damaged: Vec<_> = packs
        .iter()
        .flat_map(|pack| records(&sample, pack).into_iter().map(move |entry| (*pack, entry)))
        .filter(|(_, (id, _))| blocks.contains_key(id))
        .collect();
    assert!(damaged.len() >= 8, "{}", damaged.len());
    each(&damaged, async |(pack, (id, place))| {
        let at = place.offset as usize + place.sealed_len as usize / 2;
        let body = flipped(&sample.objects[pack], at);
        let store = showing(&sample.with(pack, Some(body))).await;
        let (engine, _dir) = open_fresh(store).await.unwrap();
        for (other, (file, index)) in &blocks {
            let data = read_block(&engine, file, *index).await;
            if other == id {
                assert_eq!(data.unwrap_err().kind(), ErrorKind::Corrupt, "{file} block {index}");
            } else {
                let all = &sample.files()[file];
                let end = all.len().min((index + 1) * BLOCK);
                assert!(data.unwrap() == all[index * BLOCK..end], "{file} block {index}");
            }
        }
        let (file, index) = &blocks[id];
        let problems = engine.fsck(&Silent).await.unwrap().problems;
        let range = format!("/{file}: bytes {} to", index * BLOCK);
        assert!(problems.iter().any(|problem| problem.contains(&range)), "{problems:?}");
    });
}

#[test]
fn s02_any_two_objects_exchanged() {
    let sample = run(Sample::new());
    let names: Vec<_> = sample.objects.keys().copied().collect();
    let pairs = names
        .iter()
        .enumerate()
        .flat_map(|(index, one)| names[index + 1..].iter().map(move |other| (*one, *other)));
    let pairs: Vec<_> = pairs.collect();
    assert!(pairs.len() > 200, "{}", pairs.len());
    each(&pairs, async |(one, other)| {
        let mut objects = sample.objects.clone();
        objects.insert(*one, sample.objects[other].clone());
        objects.insert(*other, sample.objects[one].clone());
        match sample.look(&objects).await {
            // One of them was not needed, or both of them are packs.
            Seen::Shown(shown) => {
                let newest = std::iter::once(sample.files());
                assert!(is_a_state(&shown, newest), "{one} and {other}: wrong data");
                let is_lost = shown.values().any(Result::is_err);
                let kinds = [sample.kind(one), sample.kind(other)];
                assert!(!is_lost || kinds.contains(&Kind::DataPack), "{kinds:?}");
            }
            Seen::Refused(error) => {
                let is_typed = matches!(error, Error::Vault(_))
                    || [one, other].iter().any(|name| error.to_string().contains(name.as_str()));
                assert!(is_typed, "{one} and {other}: {error:?}");
            }
        }
    });
}

#[test]
fn s03_each_object_replaced_by_every_older_of_its_kind() {
    let sample = run(Sample::new());
    let mut older = Vec::new();
    let mut seen = Vec::new();
    for (name, body) in sample.recorder.everything() {
        // Objects that the vault has removed since are known by their numbers alone.
        let Some(kind) = sample.insider.kinds.get(&name) else { continue };
        for (earlier, of, what) in &seen {
            if of == kind && *earlier != name && sample.objects.contains_key(&name) {
                let body: &Bytes = what;
                older.push((name, body.clone(), format!("as the older {earlier}")));
            }
        }
        seen.push((name, *kind, body));
    }
    assert!(older.len() > 20, "{}", older.len());
    let mut noticed = needed();
    // The older header is a header, and opens: `s12` is about that.
    noticed.remove(&Kind::Header);
    let found = attack(&sample, &older);
    assert!(noticed.is_subset(&found), "{found:?}");
}

/// The store goes back to each moment of its past.
#[test]
fn s03_every_older_store() {
    let sample = run(Sample::new());
    // A machine that was there, with its database and with its anchors alone.
    let knowing = ["whole", "rebuilt"].map(|machine| {
        sample.world.backup("a", machine);
        machine
    });
    let state = sample.world.settings("rebuilt").state_dir;
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(state.join(format!("state.db{suffix}")));
    }
    let newest = sample.recorder.age();
    let first = sample.states[0].0;
    let ages: Vec<_> = (first..newest).collect();
    each(&ages, async |age| {
        let objects = sample.recorder.at(*age);
        let states = || sample.states.iter().map(|(_, files)| files);
        match sample.look(&objects).await {
            Seen::Shown(shown) => {
                assert!(shown.values().all(Result::is_ok), "at {age}: files are lost");
                assert!(is_a_state(&shown, states()), "at {age}: a state that never was");
            }
            // In the middle of an upload: segments whose log does not say where it ends.
            Seen::Refused(error) => panic!("at {age}: {error}"),
        }
        // What is left out at the end is an incarnation record, a checkpoint or a head:
        // nothing that anybody wrote is missing.
        let lacks_data = sample.objects.keys().any(|name| {
            let kind = sample.kind(name);
            !objects.contains_key(name) && matches!(kind, Kind::Segment | Kind::Membership)
        });
        for machine in knowing {
            let world = World {
                store: showing(&objects).await,
                dir: scratch(),
                env: sample.world.env.clone(),
            };
            copy_machine(&sample.world, machine, &world);
            match world.try_open("a").await {
                Err(Error::Rollback { .. } | Error::MembershipRollback { .. }) => {}
                Err(Error::Vault(VaultError::Rollback { .. })) => {}
                Err(error) => panic!("{machine} at {age}: {error:?}"),
                Ok(_) => assert!(!lacks_data, "{machine} takes the store of {age} for the newest"),
            }
        }
    });
}

fn copy_machine(from: &World, machine: &str, to: &World) {
    let from = from.settings(machine).state_dir;
    let to = to.settings("a").state_dir;
    for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        if file.file_type().unwrap().is_file() {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

/// Any one object withheld: an older state, one that was, or a refusal.
#[test]
fn s03_any_object_withheld() {
    let sample = run(Sample::new());
    let names: Vec<_> = sample.objects.keys().copied().collect();
    each(&names, async |name| {
        let kind = sample.kind(name);
        match sample.look(&sample.with(name, None)).await {
            Seen::Shown(shown) => {
                let states = sample.states.iter().map(|(_, files)| files);
                assert!(is_a_state(&shown, states), "{kind:?}: a state that never was");
                let is_lost = shown.values().any(Result::is_err);
                assert!(!is_lost || kind == Kind::DataPack, "{kind:?}: files are lost");
            }
            Seen::Refused(error) => assert!(
                match kind {
                    Kind::Header => matches!(error, Error::NoVault { .. } | Error::Vault(_)),
                    // The records that are left, or those who joined with it, are refused.
                    Kind::Membership =>
                        matches!(error, Error::Membership(_) | Error::Unauthorised { .. }),
                    _ => matches!(error, Error::Withheld { .. }),
                },
                "{kind:?}: {error:?}"
            ),
        }
    });
}

#[test]
fn s04_each_object_cut_extended_emptied_and_blown_up() {
    let sample = run(Sample::new());
    let huge = Bytes::from(noise(2 << 20, 9));
    let variants = sample.objects.iter().flat_map(|(name, body)| {
        let len = body.len();
        let cut = [0, 1, 31, 64, 92, len / 2, len - 1].map(|len| body.slice(..len));
        let longer =
            [1, 16, 5000].map(|more| Bytes::from([&body[..], vec![0; more].as_slice()].concat()));
        let blown = [Bytes::from([&body[..], &huge[..]].concat()), huge.clone()];
        let bodies = cut.into_iter().chain(longer).chain(blown);
        bodies.map(move |body| {
            let what = format!("of {} bytes instead of {len}", body.len());
            (*name, body, what)
        })
    });
    let variants: Vec<_> = variants.collect();
    assert_eq!(attack(&sample, &variants), needed());
}

/// An object of another vault that has the same content and the same key file, in the
/// place of the one that is for the same.
#[test]
fn s05_each_object_of_another_vault() {
    let sample = run(Sample::new());
    let other = run(Sample::new());
    let foreign = sample.objects.keys().flat_map(|name| {
        let kind = sample.kind(name);
        let others = other.insider.of_kind(kind);
        let body = |from: &ObjectName| {
            (*name, other.objects[from].clone(), format!("as {from} of another vault"))
        };
        others.iter().map(body).collect::<Vec<_>>()
    });
    // Its header is a vault of its own; who knows the first refuses it: `s10`.
    let foreign: Vec<_> = foreign.filter(|(name, ..)| sample.kind(name) != Kind::Header).collect();
    assert!(foreign.len() > 60, "{}", foreign.len());
    let mut noticed = needed();
    noticed.remove(&Kind::Header);
    assert_eq!(attack(&sample, &foreign), noticed);
}

/// Keys of another namespace of the same vault open nothing.
#[test]
fn s05_keys_of_another_namespace_open_nothing() {
    let sample = run(Sample::new());
    let (insider, ns) = (&sample.insider, sample.insider.keys.namespace());
    let elsewhere = insider.master.namespace_id(1);
    let newest = insider.chain.last().unwrap();
    let same_secret = EpochKeys::new(elsewhere, newest.epoch(), newest.epoch_secret());
    for member in &newest.body().members {
        let machine: MachineId = member.machine;
        let right = Context::head(ns, machine, 0);
        let heads = insider.of_kind(Kind::Head);
        let is_head = |name: &&ObjectName| {
            envelope::open([&insider.keys], &right, &sample.objects[*name]).is_ok()
        };
        let head = &sample.objects[heads.iter().find(is_head).unwrap()];
        let wrong = Context::head(elsewhere, machine, 0);
        for (keys, context) in
            [(&insider.keys, &wrong), (&same_secret, &right), (&same_secret, &wrong)]
        {
            assert!(envelope::open([keys], context, head).is_err());
        }
    }
}

#[test]
fn s06_each_kind_of_object_as_each_other() {
    let sample = run(Sample::new());
    let mut confused = Vec::new();
    for name in sample.objects.keys() {
        let mut kinds = BTreeSet::from([sample.kind(name)]);
        for (other, body) in &sample.objects {
            if kinds.insert(sample.kind(other)) {
                let what = format!("as a {:?}", sample.kind(other));
                confused.push((*name, body.clone(), what));
            }
        }
    }
    assert!(confused.len() > 150, "{}", confused.len());
    assert_eq!(attack(&sample, &confused), needed());
}

//! The final formats, written by a single machine and read back with nothing but
//! the keys: log, heads, checkpoints, anchors.

use super::support::{World, credential, noise, read, remove, run, write};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use tgcryptfs::crypto::{Context, EpochKeys, SignatureKind, envelope, names};
use tgcryptfs::engine::{Engine, Error, Progress, newest_header, unlock};
use tgcryptfs::ids::{BlockId, Hash, PackId};
use tgcryptfs::log::object_name;
use tgcryptfs::log::op::Op;
use tgcryptfs::log::record::{CheckpointRecord, Head, IncarnationRecord};
use tgcryptfs::log::segment::Segment;
use tgcryptfs::store::{
    BlobStore, ErrorKind, Fault, FaultOp, FaultRule, FaultStore, MemoryStore, ObjectName, PutMode,
};
use tgcryptfs::vault::MembershipRecord;
use vfs::Stability::Buffered;

/// Counts what it is told.
#[derive(Debug, Default)]
struct Counted {
    steps: Mutex<Vec<Step>>,
}

#[derive(Debug)]
struct Step {
    what: String,
    total: Option<u64>,
    done: u64,
    is_over: bool,
}

impl Progress for Counted {
    fn begin(&self, what: &str, total: Option<u64>) {
        let step = Step { what: what.to_owned(), total, done: 0, is_over: false };
        self.steps.lock().push(step);
    }

    fn advance(&self, n: u64) {
        self.steps.lock().last_mut().unwrap().done += n;
    }

    fn end(&self) {
        self.steps.lock().last_mut().unwrap().is_over = true;
    }
}

/// Whoever waits for a rebuild sees how far it is.
#[test]
fn a_rebuild_tells_how_far_it_is() {
    run(async {
        let world = World::new().await;
        let (engine, _) = history(&world, "a", 3).await;
        engine.close().await.unwrap();
        let (counted, settings) = (Counted::default(), world.settings("new"));
        let (store, env) = (world.store.clone(), world.env.clone());
        let new = Engine::open(store, &credential(), settings, env, &counted).await.unwrap();
        new.fsck(&counted).await.unwrap();
        let steps = counted.steps.into_inner();
        let step = |what: &str| steps.iter().find(|step| step.what == what).unwrap();
        for what in ["reading the checkpoint", "verifying names", "verifying files"] {
            let step = step(what);
            assert!(step.done > 30 && step.is_over, "{step:?}");
            assert_eq!(step.total, Some(step.done), "{what}");
        }
        assert!(steps.iter().all(|step| step.is_over), "{steps:?}");
    });
}

/// A history of several uploads, with as many checkpoints as can be, and the digest
/// of the state after each.
async fn history(world: &World, machine: &str, uploads: u64) -> (Engine, Vec<BlockId>) {
    let mut digests = Vec::new();
    let engine =
        world.open_with(machine, |settings| settings.checkpoint_len_min = 1).await.unwrap();
    for upload in 0..uploads {
        for file in 0..40 {
            let data = noise(50 + 997 * file as usize, upload * 100 + file % 7);
            write(&engine, &format!("f{file}"), data, Buffered).await.unwrap();
        }
        remove(&engine, &format!("f{}", upload % 40)).await.unwrap();
        engine.sync().await.unwrap();
        digests.push(engine.state_digest().unwrap().id);
    }
    (engine, digests)
}

/// What an auditor with the keys finds in a store.
#[derive(Default)]
struct Audit {
    names: BTreeSet<ObjectName>,
    segments: u64,
    head: Option<Head>,
    checkpoints: Vec<CheckpointRecord>,
    packs: BTreeSet<PackId>,
}

/// Opens every object with nothing but the passphrase, through the codecs and not
/// through the engine, and checks every signature and link on the way.
async fn audit(store: &dyn BlobStore) -> Audit {
    let mut audit = Audit::default();
    let header = newest_header(store).await.unwrap().unwrap();
    audit.names.insert(ObjectName::vault(header.generation()));
    let master = unlock(&header, &credential()).unwrap();
    let ns = master.namespace_id(0);
    let mut records: Vec<MembershipRecord> = Vec::new();
    loop {
        let n = records.len() as u64;
        let key = master.membership_name_key(ns);
        let name = object_name(&names::membership(&key, ns, n));
        let Ok(object) = store.get(&name, None).await else { break };
        audit.names.insert(name);
        records.push(match records.last() {
            None => MembershipRecord::open_first(&master, 0, &object).unwrap(),
            Some(last) => last.open_next(&master, &object).unwrap(),
        });
    }
    let newest = records.last().expect("membership record 0 is there");
    let keys = EpochKeys::new(ns, newest.epoch(), newest.epoch_secret());
    for member in &newest.body().members {
        let machine = member.machine;
        let open = async |name: &ObjectName, context: &Context, kind| {
            let object = store.get(name, None).await.ok()?;
            let opened = envelope::open([&keys], context, &object).unwrap();
            let body = member.signing_key.verify_signed(kind, &opened.plaintext).unwrap().to_vec();
            Some((body, Hash(*blake3::hash(&opened.plaintext).as_bytes())))
        };
        for index in 0.. {
            let name = object_name(&names::incarnation(&keys, machine, index));
            let context = Context::incarnation(ns, machine, index);
            let Some((body, _)) = open(&name, &context, SignatureKind::Incarnation).await else {
                break;
            };
            audit.names.insert(name);
            let life = IncarnationRecord::decode(&body).unwrap().incarnation;
            let mut previous = Hash([0; 32]);
            for seq in 0.. {
                let name = object_name(&names::segment(&keys, machine, life, seq));
                let context = Context::segment(ns, machine, life, seq);
                let Some((body, hash)) = open(&name, &context, SignatureKind::Segment).await else {
                    break;
                };
                audit.names.insert(name);
                audit.segments += 1;
                let segment = Segment::decode(&body).unwrap();
                assert_eq!(segment.previous, previous, "the log is linked");
                previous = hash;
                for op in segment.groups.iter().flat_map(|group| &group.ops) {
                    if let Op::PackAdd { pack, .. } = op {
                        assert!(audit.packs.insert(*pack), "a pack is announced once");
                    }
                }
            }
        }
        for counter in 0..100 {
            let name = object_name(&names::head(&keys, machine, counter));
            let context = Context::head(ns, machine, counter);
            if let Some((body, _)) = open(&name, &context, SignatureKind::Head).await {
                audit.head = Some(Head::decode(&body).unwrap());
                audit.names.insert(name);
            }
        }
        for number in 0.. {
            let name = object_name(&names::checkpoint(&keys, machine, number));
            let context = Context::checkpoint(ns, machine, number);
            let Some((body, _)) = open(&name, &context, SignatureKind::Checkpoint).await else {
                break;
            };
            audit.names.insert(name);
            audit.checkpoints.push(CheckpointRecord::decode(&body).unwrap());
        }
    }
    let in_checkpoints = audit.checkpoints.iter().flat_map(|record| &record.packs);
    audit.packs.extend(in_checkpoints.map(|info| info.pack));
    for pack in &audit.packs {
        audit.names.insert(object_name(&names::pack(&keys, *pack)));
    }
    audit
}

#[test]
fn one_machine_alone_writes_the_final_formats_and_nothing_else() {
    run(async {
        let world = World::new().await;
        let digests = history(&world, "a", 4).await.1;
        let audit = audit(&*world.store).await;
        assert_eq!(audit.names, world.names().await, "every object is accounted for");
        assert!(audit.segments >= 4, "{}", audit.segments);
        let newest = audit.checkpoints.last().unwrap();
        assert!(digests.contains(&newest.root), "a checkpoint is a state that was");
        let head = audit.head.unwrap();
        assert_eq!(head.checkpoint.unwrap().root, newest.root);
    });
}

#[test]
fn checkpoint_and_log_alone_give_the_same_state() {
    run(async {
        let world = World::new().await;
        let (engine, _) = history(&world, "a", 5).await;
        write(&engine, "behind the checkpoint", b"x".to_vec(), Buffered).await.unwrap();
        engine.sync().await.unwrap();
        let digest = engine.state_digest().unwrap();
        // From the newest checkpoint.
        let fresh = world.open("fresh").await;
        assert_eq!(fresh.state_digest().unwrap(), digest);
        assert!(fresh.fsck(&tgcryptfs::engine::Silent).await.unwrap().problems.is_empty());
        // From an older one, as the newest are damaged; then from none at all.
        let audit = audit(&*world.store).await;
        let packs = audit.checkpoints.iter().rev().flat_map(|record| record.packs.clone());
        let keys = keys(&world).await;
        for (index, info) in packs.enumerate() {
            let name = object_name(&names::pack(&keys, info.pack));
            let body = world.store.get(&name, None).await.unwrap();
            if index % 2 == 0 {
                world.store.delete(&name).await.unwrap();
            } else {
                let mut damaged = body.to_vec();
                damaged[body.len() / 2] ^= 1;
                world.store.put(&name, damaged.into(), PutMode::Overwrite).await.unwrap();
            }
            let other = world.open(&format!("other{index}")).await;
            assert_eq!(other.state_digest().unwrap(), digest, "without {} checkpoints", index + 1);
        }
    });
}

async fn keys(world: &World) -> EpochKeys {
    let header = newest_header(&*world.store).await.unwrap().unwrap();
    let master = unlock(&header, &credential()).unwrap();
    let ns = master.namespace_id(0);
    let name = object_name(&names::membership(&master.membership_name_key(ns), ns, 0));
    let object = world.store.get(&name, None).await.unwrap();
    let record = MembershipRecord::open_first(&master, 0, &object).unwrap();
    EpochKeys::new(ns, record.epoch(), record.epoch_secret())
}

#[test]
fn a_machine_that_knows_nothing_notices_a_missing_segment() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        let mut segments = Vec::new();
        for upload in 0..3 {
            let before = audit(&*world.store).await.segments;
            write(&engine, &format!("f{upload}"), b"x".to_vec(), Buffered).await.unwrap();
            engine.sync().await.unwrap();
            assert_eq!(audit(&*world.store).await.segments, before + 1);
            segments.push(before);
        }
        let (keys, record) = (keys(&world).await, life(&world).await);
        for seq in segments {
            let name = object_name(&names::segment(&keys, record.machine, record.incarnation, seq));
            let body = world.store.get(&name, None).await.unwrap();
            world.store.delete(&name).await.unwrap();
            let error = world.try_open(&format!("fresh{seq}")).await.unwrap_err();
            assert!(matches!(error, Error::Withheld { .. }), "without segment {seq}: {error}");
            world.store.put(&name, body, PutMode::Overwrite).await.unwrap();
        }
        // Nothing that failed stands in the way of trying again.
        assert_eq!(read(&world.open("fresh0").await, "f2").await.unwrap(), b"x");
    });
}

/// The first life of the first machine.
async fn life(world: &World) -> IncarnationRecord {
    let header = newest_header(&*world.store).await.unwrap().unwrap();
    let master = unlock(&header, &credential()).unwrap();
    let ns = master.namespace_id(0);
    let name = object_name(&names::membership(&master.membership_name_key(ns), ns, 0));
    let object = world.store.get(&name, None).await.unwrap();
    let record = MembershipRecord::open_first(&master, 0, &object).unwrap();
    let member = record.body().members[0].clone();
    let keys = keys(world).await;
    let name = object_name(&names::incarnation(&keys, member.machine, 0));
    let object = world.store.get(&name, None).await.unwrap();
    let context = Context::incarnation(ns, member.machine, 0);
    let opened = envelope::open([&keys], &context, &object).unwrap();
    let body = member.signing_key.verify_signed(SignatureKind::Incarnation, &opened.plaintext);
    IncarnationRecord::decode(body.unwrap()).unwrap()
}

#[test]
fn a_store_that_was_rolled_back_is_refused_even_without_the_database() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        write(&engine, "f", b"1".to_vec(), Buffered).await.unwrap();
        engine.sync().await.unwrap();
        let mut old = Vec::new();
        for name in world.names().await {
            old.push((name, world.store.get(&name, None).await.unwrap()));
        }
        write(&engine, "f", b"2".to_vec(), Buffered).await.unwrap();
        engine.close().await.unwrap();
        drop(engine);
        for name in world.names().await {
            world.store.delete(&name).await.unwrap();
        }
        for (name, body) in old {
            world.store.put(&name, body, PutMode::Overwrite).await.unwrap();
        }
        // A machine that never was there cannot know.
        assert_eq!(read(&world.open("fresh").await, "f").await.unwrap(), b"1");
        // One that has its database does not write on behind the gap.
        let error = world.try_open("a").await.unwrap_err();
        assert!(matches!(error, Error::Rollback { .. }), "{error}");
        let database = world.settings("a").state_dir.join("state.db");
        for suffix in ["", "-wal", "-shm"] {
            let mut path = database.clone().into_os_string();
            path.push(suffix);
            let _ = std::fs::remove_file(path);
        }
        let error = world.try_open("a").await.unwrap_err();
        assert!(matches!(error, Error::Rollback { .. }), "{error}");
    });
}

#[test]
fn a_head_that_did_not_get_through_is_sent_again() {
    run(async {
        let faulty = Arc::new(FaultStore::new(Arc::new(MemoryStore::new()), 1));
        let world = World::on(faulty.clone()).await;
        let engine = world.open("a").await;
        let (keys, machine) = (keys(&world).await, life(&world).await.machine);
        let head = object_name(&names::head(&keys, machine, 0));
        faulty.add(FaultRule::new(FaultOp::Put, Fault::Fail(ErrorKind::Offline)).named(head));
        write(&engine, "f", b"x".to_vec(), Buffered).await.unwrap();
        engine.sync().await.unwrap_err();
        faulty.heal();
        engine.sync().await.unwrap();
        assert!(world.names().await.contains(&head));
    });
}

#[test]
fn half_of_what_a_lost_machine_was_sending_holds_up_nobody() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        write(&engine, "whole", b"x".to_vec(), Buffered).await.unwrap();
        engine.sync().await.unwrap();
        let before = audit(&*world.store).await.segments;
        for file in 0..3000 {
            write(&engine, &format!("f{file}"), b"x".to_vec(), Buffered).await.unwrap();
        }
        engine.sync().await.unwrap();
        drop(engine);
        let audit = audit(&*world.store).await;
        assert!(audit.segments > before + 1, "one upload of several segments");
        // As if it had been killed before the last segment, and never came back.
        let (keys, life) = (keys(&world).await, life(&world).await);
        let segment = |seq| names::segment(&keys, life.machine, life.incarnation, seq);
        world.store.delete(&object_name(&segment(audit.segments - 1))).await.unwrap();
        let head = object_name(&names::head(&keys, life.machine, 1));
        world.store.delete(&head).await.unwrap();
        for _ in 0..2 {
            let b = world.open("b").await;
            assert_eq!(read(&b, "whole").await.unwrap(), b"x");
            assert!(read(&b, "f0").await.is_err(), "all of a batch or nothing");
            write(&b, "more", b"y".to_vec(), Buffered).await.unwrap();
            b.close().await.unwrap();
        }
        assert_eq!(read(&world.open("fresh").await, "more").await.unwrap(), b"y");
    });
}

#[test]
fn a_lost_or_damaged_pack_costs_its_files_and_no_others() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        let mut added = Vec::new();
        for file in 0..3 {
            let before = world.names().await;
            write(&engine, &format!("f{file}"), noise(100_000, file), Buffered).await.unwrap();
            engine.sync().await.unwrap();
            added.push(world.names().await.difference(&before).cloned().collect::<Vec<_>>());
        }
        let mut pack = None;
        for name in &added[1] {
            if world.store.size(name).await.unwrap() > Some(60_000) {
                pack = Some(*name);
            }
        }
        let pack = pack.unwrap();
        let body = world.store.get(&pack, None).await.unwrap();
        world.store.delete(&pack).await.unwrap();
        let lost = world.open("lost").await;
        let (mut damaged, len) = (body.to_vec(), body.len());
        damaged[len - 10] ^= 1;
        world.store.put(&pack, damaged.into(), PutMode::Overwrite).await.unwrap();
        let damaged = world.open("damaged").await;
        for engine in [lost, damaged] {
            assert_eq!(read(&engine, "f0").await.unwrap(), noise(100_000, 0));
            assert_eq!(read(&engine, "f2").await.unwrap(), noise(100_000, 2));
            let error = read(&engine, "f1").await.unwrap_err();
            assert_eq!(error.kind(), vfs::ErrorKind::Corrupt, "{error}");
            let report = engine.fsck(&tgcryptfs::engine::Silent).await.unwrap();
            assert!(report.problems.iter().any(|p| p.contains("f1")), "{:?}", report.problems);
        }
    });
}

//! Each fault does what it says, and nothing else.

use super::{Fault, FaultOp, FaultRule, FaultStore};
use crate::store::suite::{self, block_on, body, name};
use crate::store::{BlobStore, Error, ErrorKind, MemoryStore, ObjectName, PutMode, PutOutcome};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;

suite::conformance!(|| (Arc::new(new()), ()));

fn new() -> FaultStore {
    FaultStore::new(Arc::new(MemoryStore::new()), 7)
}

fn put(store: &FaultStore, name: &ObjectName, body: &Bytes) -> Result<PutOutcome, Error> {
    block_on(store.put(name, body.clone(), PutMode::Overwrite))
}

fn get(store: &dyn BlobStore, name: &ObjectName) -> Result<Bytes, ErrorKind> {
    block_on(store.get(name, None)).map_err(|error| error.kind())
}

/// A store with two objects, and one rule.
fn with_rule(op: FaultOp, fault: Fault) -> (FaultStore, ObjectName, Bytes) {
    let (store, one) = (new(), body("one", 1000));
    put(&store, &name("one"), &one).unwrap();
    put(&store, &name("two"), &body("two", 500)).unwrap();
    store.add(FaultRule::new(op, fault).named(name("one")));
    (store, name("one"), one)
}

#[test]
fn fails_as_often_as_told() {
    let (store, body) = (new(), body("", 10));
    let rule = FaultRule::new(FaultOp::Put, Fault::Fail(ErrorKind::Offline)).skip(1).times(2);
    let id = store.add(rule);
    let kinds: Vec<_> = (0..5)
        .map(|n| put(&store, &ObjectName::vault(n), &body).map_err(|error| error.kind()))
        .collect();
    let (fine, failed) = (Ok(PutOutcome::Created), Err(ErrorKind::Offline));
    assert_eq!(kinds, [fine, failed, failed, fine, fine]);
    assert_eq!((store.fired(id), store.calls(FaultOp::Put)), (2, 5));
    assert_eq!(store.bytes(FaultOp::Put), 30);
    assert_eq!(get(&**store.inner(), &ObjectName::vault(1)), Err(ErrorKind::NotFound));
}

#[test]
fn fails_after_it_was_done() {
    let kind = ErrorKind::Throttled { retry_after_ms: 3000 };
    let store = new();
    let rule = store.add(FaultRule::new(FaultOp::Put, Fault::FailAfter(kind)));
    let error = put(&store, &name("x"), &body("", 10)).unwrap_err();
    assert_eq!((error.kind(), error.name()), (kind, Some(&name("x"))));
    assert!(error.is_transient());
    assert_eq!(get(&store, &name("x")).unwrap(), body("", 10));
    store.remove(rule);
    let again = block_on(store.put(&name("x"), body("", 10), PutMode::CreateIfAbsent));
    assert_eq!(again.unwrap(), PutOutcome::AlreadyThere);

    for op in [FaultOp::Get, FaultOp::Size, FaultOp::List, FaultOp::Delete] {
        store.add(FaultRule::new(op, Fault::FailAfter(ErrorKind::Io)));
    }
    assert_eq!(get(&store, &name("x")), Err(ErrorKind::Io));
    assert_eq!(block_on(store.size(&name("x"))).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(block_on(store.list("")).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(block_on(store.delete(&name("x"))).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(get(&**store.inner(), &name("x")), Err(ErrorKind::NotFound));
}

#[test]
fn an_outage_is_total_until_it_is_over() {
    let (store, name) = (new(), name("x"));
    put(&store, &name, &body("", 10)).unwrap();
    store.set_outage(Some(ErrorKind::Offline));
    let kinds = [
        put(&store, &name, &body("", 20)).unwrap_err().kind(),
        get(&store, &name).unwrap_err(),
        block_on(store.size(&name)).unwrap_err().kind(),
        block_on(store.list("")).unwrap_err().kind(),
        block_on(store.delete(&name)).unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::Offline; 5]);
    store.set_outage(None);
    assert_eq!(get(&store, &name).unwrap(), body("", 10));
    assert_eq!(FaultOp::ALL.map(|op| store.calls(op)), [2, 2, 1, 1, 1]);
}

#[test]
fn bodies_read_are_mangled_the_same_in_whole_and_in_part() {
    let (store, name, one) = with_rule(FaultOp::Get, Fault::Truncate { len: 700 });
    assert_eq!(get(&store, &name).unwrap(), one.slice(..700));
    assert_eq!(block_on(store.get(&name, Some(600..900))).unwrap(), one.slice(600..700));
    assert_eq!(get(&store, &suite::name("two")).unwrap(), body("two", 500));
    assert_eq!(get(&**store.inner(), &name).unwrap(), one);

    let (store, name, one) = with_rule(FaultOp::Get, Fault::Extend { by: 40 });
    let longer = get(&store, &name).unwrap();
    assert_eq!((longer.len(), &longer[..1000]), (1040, &*one));

    let other = body("other", 3);
    let (store, name, _) = with_rule(FaultOp::Get, Fault::Replace(other.clone()));
    assert_eq!(get(&store, &name).unwrap(), other);

    let (store, name, _) = with_rule(FaultOp::Get, Fault::Swap(suite::name("two")));
    assert_eq!(get(&store, &name).unwrap(), body("two", 500));

    let (store, name, _) = with_rule(FaultOp::Get, Fault::Missing);
    assert_eq!(get(&store, &name), Err(ErrorKind::NotFound));
    assert_eq!(block_on(store.size(&name)).unwrap(), Some(1000));
}

#[test]
fn exactly_one_bit_is_flipped_and_the_seed_says_which() {
    let flipped = || {
        let (store, name, one) = with_rule(FaultOp::Get, Fault::FlipBit);
        let read = [get(&store, &name).unwrap(), get(&store, &name).unwrap()];
        for read in &read {
            let bits: u32 = read.iter().zip(&one).map(|(a, b)| (a ^ b).count_ones()).sum();
            assert_eq!((read.len(), bits), (1000, 1));
        }
        assert_ne!(read[0], read[1], "drawn anew for each read");
        read
    };
    assert_eq!(flipped(), flipped());
    let (store, name) = (new(), name("empty"));
    put(&store, &name, &Bytes::new()).unwrap();
    store.add(FaultRule::new(FaultOp::Get, Fault::FlipBit));
    assert_eq!(get(&store, &name).unwrap(), Bytes::new());
}

#[test]
fn sizes_lie_too() {
    for (fault, size) in [
        (Fault::Truncate { len: 3 }, Some(3)),
        (Fault::Extend { by: 3 }, Some(1003)),
        (Fault::Swap(name("two")), Some(500)),
        (Fault::Missing, None),
    ] {
        let (store, name, _) = with_rule(FaultOp::Size, fault.clone());
        assert_eq!(block_on(store.size(&name)).unwrap(), size, "{fault:?}");
    }
}

#[test]
fn bodies_written_are_mangled_for_good() {
    let (store, name, one) = with_rule(FaultOp::Put, Fault::Truncate { len: 10 });
    put(&store, &name, &one).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("pack"), &one).unwrap();
    store.heal();
    assert_eq!(get(&store, &name).unwrap(), one.slice(..10));
    store.add(FaultRule::new(FaultOp::Put, Fault::Truncate { len: 20 }));
    block_on(store.put_file(&name, &dir.path().join("pack"), PutMode::Overwrite)).unwrap();
    assert_eq!(get(&store, &name).unwrap(), one.slice(..20));
}

#[test]
fn ignored_writes_look_like_success() {
    let (store, name, one) = with_rule(FaultOp::Put, Fault::Ignore);
    put(&store, &name, &body("new", 5)).unwrap();
    assert_eq!(get(&store, &name).unwrap(), one);
    store.add(FaultRule::new(FaultOp::Delete, Fault::Ignore));
    block_on(store.delete(&name)).unwrap();
    assert_eq!(get(&store, &name).unwrap(), one);
}

#[test]
fn the_past_can_be_replayed() {
    let (store, name) = (new(), ObjectName::vault(1));
    for version in ["a", "b", "c"] {
        put(&store, &name, &body(version, 9)).unwrap();
    }
    let replay = |back| {
        let rule = FaultRule::new(FaultOp::Get, Fault::Replay { back });
        let id = store.add(rule.times(1));
        let read = get(&store, &name);
        store.remove(id);
        read
    };
    assert_eq!(replay(1).unwrap(), body("b", 9));
    assert_eq!(replay(2).unwrap(), body("a", 9));
    assert_eq!(replay(3), Err(ErrorKind::NotFound), "it was not there yet");
    assert_eq!(get(&store, &name).unwrap(), body("c", 9));
    block_on(store.delete(&name)).unwrap();
    assert_eq!(replay(1).unwrap(), body("c", 9), "back from the dead");
}

#[test]
fn listings_lose_and_double_entries() {
    let store = new();
    for n in 0..4 {
        put(&store, &ObjectName::vault(n), &body("", 1)).unwrap();
    }
    store.add(FaultRule::new(FaultOp::List, Fault::Missing).named(ObjectName::vault(1)));
    store.add(FaultRule::new(FaultOp::List, Fault::Duplicate).named(ObjectName::vault(2)));
    let listed = block_on(store.list("vault.")).unwrap();
    let generations: Vec<_> =
        listed.iter().map(|info| info.name.vault_generation().unwrap()).collect();
    assert_eq!(generations, [0, 2, 2, 3]);
    store.add(FaultRule::new(FaultOp::List, Fault::Fail(ErrorKind::Denied)));
    assert_eq!(block_on(store.list("")).unwrap_err().kind(), ErrorKind::Denied);
}

#[test]
fn chances_repeat_with_the_seed() {
    let outcomes = |seed| {
        let store = FaultStore::new(Arc::new(MemoryStore::new()), seed);
        store.add(FaultRule::new(FaultOp::Size, Fault::Fail(ErrorKind::Io)).chance_permille(300));
        let fails = (0..200).map(|_| block_on(store.size(&ObjectName::vault(1))).is_err());
        fails.collect::<Vec<_>>()
    };
    assert_eq!(outcomes(1), outcomes(1));
    assert_ne!(outcomes(1), outcomes(2));
    let failed = outcomes(1).into_iter().filter(|&failed| failed).count();
    assert!((30..90).contains(&failed), "{failed} of 200");
}

#[test]
fn hooks_hold_calls_and_see_their_order() {
    let store = Arc::new(new());
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let seen = Arc::new(Mutex::new(Vec::new()));
    store.set_hook(Some({
        let (gate, seen) = (gate.clone(), seen.clone());
        Arc::new(move |op, name| {
            seen.lock().push((op, name));
            let gate = gate.clone();
            Box::pin(async move { gate.acquire().await.unwrap().forget() })
        })
    }));
    block_on(async {
        let waiting = tokio::spawn({
            let store = store.clone();
            async move { store.put(&ObjectName::vault(1), Bytes::new(), PutMode::Overwrite).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(store.calls(FaultOp::Put), 0, "it is held");
        gate.add_permits(1);
        waiting.await.unwrap().unwrap();
        assert_eq!(*seen.lock(), [(FaultOp::Put, Some(ObjectName::vault(1)))]);
        store.heal();
        store.list("").await.unwrap();
    });
}

#[test]
#[should_panic(expected = "can never act")]
fn rules_that_cannot_act_are_refused() {
    new().add(FaultRule::new(FaultOp::Delete, Fault::FlipBit));
}

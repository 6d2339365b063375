//! What every store must do, as tests.
//!
//! A store's test module calls [`conformance!`] with a closure that makes an
//! empty store, and something to keep alive for as long as the store is used:
//!
//! ```ignore
//! suite::conformance!(|| (Arc::new(MemoryStore::new()), ()));
//! ```
//!
//! Each property is a function of its own, so that a failure names it. A line
//! that a store does not promise (see [`Capabilities`](super::Capabilities)) is
//! not asked of it.

use super::{BlobStore, ErrorKind, ObjectInfo, ObjectName, PutMode, PutOutcome};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

/// One `#[test]` for each property, over the stores that the closure makes.
macro_rules! conformance {
    ($make:expr) => {
        $crate::store::suite::conformance!(
            $make;
            round_trips ranges creates_once one_creator_wins overwrites_are_atomic lists_by_prefix
            deletes_twice absent_objects puts_files refuses_unreadable_files many_at_once
        );
    };
    ($make:expr; $($property:ident)*) => {
        mod conformance {
            use super::*;
            $(
                #[test]
                fn $property() {
                    let make = $make;
                    let (store, _guard) = make();
                    $crate::store::suite::$property(&*store);
                }
            )*
        }
    };
}
pub(crate) use conformance;

/// Runs one future to its end.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A name for tests; equal seeds give equal names.
pub(crate) fn name(seed: &str) -> ObjectName {
    let mut prf = [0; 16];
    prf.copy_from_slice(&blake3::hash(seed.as_bytes()).as_bytes()[..16]);
    ObjectName::from_prf(&prf)
}

/// Bytes that compress badly and differ everywhere.
pub(crate) fn body(seed: &str, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

/// `task(0)`, `task(1)`, … each on a thread of its own, all at once.
fn in_parallel<T: Send>(count: usize, task: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let barrier = std::sync::Barrier::new(count);
    std::thread::scope(|scope| {
        let run = |index| {
            barrier.wait();
            task(index)
        };
        let threads: Vec<_> = (0..count).map(|index| scope.spawn(move || run(index))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

pub(crate) fn round_trips(store: &dyn BlobStore) {
    block_on(async {
        for (name, len) in [
            (name("empty"), 0),
            (name("byte"), 1),
            (name("large"), 5 << 20),
            (ObjectName::vault(1), 4096),
            (ObjectName::vault(u64::MAX), 17),
        ] {
            let body = body(name.as_str(), len);
            let put = store.put(&name, body.clone(), PutMode::CreateIfAbsent).await.unwrap();
            assert_eq!(put, PutOutcome::Created);
            assert!(store.get(&name, None).await.unwrap() == body, "{name}");
            assert_eq!(store.size(&name).await.unwrap(), Some(len as u64));
        }
    });
}

pub(crate) fn ranges(store: &dyn BlobStore) {
    const LEN: u64 = 10_000;
    block_on(async {
        let (name, body) = (name("ranges"), body("ranges", LEN as usize));
        store.put(&name, body.clone(), PutMode::Overwrite).await.unwrap();
        for (start, end) in [
            (0, LEN),
            (0, 1),
            (LEN - 1, LEN),
            (4095, 8193),
            (9000, LEN + 5000),
            (0, u64::MAX),
            (500, 500),
            (LEN, LEN + 1),
            (LEN + 7, LEN + 9),
            (u64::MAX - 1, u64::MAX),
        ] {
            let part = store.get(&name, Some(start..end)).await.unwrap();
            let expected = &body[start.min(LEN) as usize..end.min(LEN) as usize];
            assert!(part == expected, "{start}..{end} gave {} bytes", part.len());
        }
        #[expect(clippy::reversed_empty_ranges, reason = "a caller's mistake must not panic")]
        let backwards = store.get(&name, Some(900..100)).await.unwrap();
        assert!(backwards.is_empty());
        let error = store.get(&self::name("absent"), Some(0..1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

pub(crate) fn creates_once(store: &dyn BlobStore) {
    block_on(async {
        for name in [name("once"), ObjectName::vault(2)] {
            let (first, second) = (body("first", 1000), body("second", 2000));
            let put = |body: &Bytes, mode| store.put(&name, body.clone(), mode);
            let created = put(&first, PutMode::CreateIfAbsent).await.unwrap();
            assert_eq!(created, PutOutcome::Created);
            for body in [&first, &second] {
                let again = put(body, PutMode::CreateIfAbsent).await.unwrap();
                assert_eq!(again, PutOutcome::AlreadyThere);
            }
            assert_eq!(store.get(&name, None).await.unwrap(), first);
            let replaced = put(&second, PutMode::Overwrite).await.unwrap();
            assert_eq!(replaced, PutOutcome::Created);
            assert_eq!(store.get(&name, None).await.unwrap(), second);
            store.delete(&name).await.unwrap();
            let after_delete = put(&first, PutMode::CreateIfAbsent).await.unwrap();
            assert_eq!(after_delete, PutOutcome::Created);
        }
    });
}

pub(crate) fn one_creator_wins(store: &dyn BlobStore) {
    const RIVALS: usize = 6;
    if !store.capabilities().create_if_absent {
        return;
    }
    for round in 0..8 {
        let name = name(&format!("race {round}"));
        let bodies: Vec<_> = (0..RIVALS).map(|n| body(&n.to_string(), 1000 + n)).collect();
        let outcomes = in_parallel(RIVALS, |index| {
            let body = bodies[index].clone();
            let outcome = block_on(store.put(&name, body, PutMode::CreateIfAbsent)).unwrap();
            // Winner or not, from here on the object is there.
            assert!(block_on(store.size(&name)).unwrap().is_some());
            outcome
        });
        let winners: Vec<_> =
            (0..RIVALS).filter(|&index| outcomes[index] == PutOutcome::Created).collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        assert_eq!(block_on(store.get(&name, None)).unwrap(), bodies[winners[0]]);
    }
}

pub(crate) fn overwrites_are_atomic(store: &dyn BlobStore) {
    let name = ObjectName::vault(7);
    let bodies = [body("short", 70_000), body("long", 300_000)];
    let put = |index: usize| block_on(store.put(&name, bodies[index].clone(), PutMode::Overwrite));
    put(0).unwrap();
    let is_done = AtomicBool::new(false);
    in_parallel(2, |index| {
        if index == 0 {
            for round in 0..30 {
                put(round % 2).unwrap();
            }
            is_done.store(true, Ordering::SeqCst);
            return;
        }
        while !is_done.load(Ordering::SeqCst) {
            let seen = block_on(store.get(&name, None)).unwrap();
            assert!(bodies.contains(&seen), "a mixture of {} bytes", seen.len());
            let size = block_on(store.size(&name)).unwrap().unwrap();
            assert!(bodies.iter().any(|body| body.len() as u64 == size), "{size}");
        }
    });
}

pub(crate) fn lists_by_prefix(store: &dyn BlobStore) {
    block_on(async {
        assert_eq!(store.list("").await.unwrap(), []);
        let mut expected = Vec::new();
        for n in 0..300_usize {
            let name = if n < 3 { ObjectName::vault(n as u64) } else { name(&n.to_string()) };
            store.put(&name, body("", n), PutMode::Overwrite).await.unwrap();
            expected.push(ObjectInfo { name, size: n as u64 });
        }
        expected.sort_by_key(|info| info.name);
        let some_name = name("4").to_string();
        let prefixes = [
            "",
            "v",
            "vault.",
            "vault.1",
            "0",
            "a",
            "c3",
            &some_name[..3],
            &some_name,
            "g",
            "abcdefg",
        ];
        for prefix in prefixes {
            let mut listed = store.list(prefix).await.unwrap();
            listed.sort_by_key(|info| info.name);
            let matching = expected.iter().filter(|info| info.name.as_str().starts_with(prefix));
            assert_eq!(listed, matching.cloned().collect::<Vec<_>>(), "{prefix:?}");
        }
        store.delete(&name("4")).await.unwrap();
        assert_eq!(store.list(&some_name).await.unwrap(), []);
    });
}

pub(crate) fn deletes_twice(store: &dyn BlobStore) {
    block_on(async {
        for name in [name("gone"), ObjectName::vault(4)] {
            store.delete(&name).await.unwrap();
            store.put(&name, body("", 10), PutMode::Overwrite).await.unwrap();
            store.delete(&name).await.unwrap();
            assert_eq!(store.size(&name).await.unwrap(), None);
            assert_eq!(store.get(&name, None).await.unwrap_err().kind(), ErrorKind::NotFound);
            store.delete(&name).await.unwrap();
        }
    });
}

pub(crate) fn absent_objects(store: &dyn BlobStore) {
    block_on(async {
        for name in [name("absent"), ObjectName::vault(3)] {
            assert_eq!(store.size(&name).await.unwrap(), None);
            let error = store.get(&name, None).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert_eq!(error.name(), Some(&name));
            assert_eq!(error.location(), Some(&*store.location()));
            assert!(!error.is_transient());
        }
    });
}

pub(crate) fn puts_files(store: &dyn BlobStore) {
    let dir = tempfile::tempdir().unwrap();
    let write = |file: &str, body: &Bytes| {
        let path = dir.path().join(file);
        std::fs::write(&path, body).unwrap();
        path
    };
    block_on(async {
        for name in [name("file"), ObjectName::vault(5)] {
            let (old, new) = (body("old", 200_000), body("new", 70_000));
            let path = write("source", &old);
            let put = store.put_file(&name, &path, PutMode::CreateIfAbsent).await.unwrap();
            assert_eq!(put, PutOutcome::Created);
            std::fs::remove_file(&path).unwrap();
            assert!(store.get(&name, None).await.unwrap() == old, "it went with its source");

            let path = write("source", &new);
            let put = store.put_file(&name, &path, PutMode::CreateIfAbsent).await.unwrap();
            assert_eq!(put, PutOutcome::AlreadyThere);
            assert!(store.get(&name, None).await.unwrap() == old);
            // The second time the source may be the object already.
            for _ in 0..2 {
                let put = store.put_file(&name, &path, PutMode::Overwrite).await.unwrap();
                assert_eq!(put, PutOutcome::Created);
                assert!(store.get(&name, None).await.unwrap() == new);
            }
            let put = store.put_file(&name, &path, PutMode::CreateIfAbsent).await.unwrap();
            assert_eq!(put, PutOutcome::AlreadyThere);
            store.put(&name, old.clone(), PutMode::Overwrite).await.unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), new, "the source was written to");
            std::fs::remove_file(&path).unwrap();
        }
    });
}

pub(crate) fn refuses_unreadable_files(store: &dyn BlobStore) {
    let dir = tempfile::tempdir().unwrap();
    let name = name("file");
    for path in [dir.path().join("absent"), dir.path().to_owned()] {
        let error = block_on(store.put_file(&name, &path, PutMode::Overwrite)).unwrap_err();
        // Never `NotFound`: that is about objects.
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert_eq!(block_on(store.size(&name)).unwrap(), None);
    }
}

pub(crate) fn many_at_once(store: &dyn BlobStore) {
    let stored = in_parallel(4, |thread| {
        block_on(async {
            for n in 0..40 {
                let name = name(&format!("{thread} {n}"));
                let body = body(name.as_str(), 100 * n);
                store.put(&name, body.clone(), PutMode::CreateIfAbsent).await.unwrap();
                assert_eq!(store.get(&name, None).await.unwrap(), body);
                if n % 4 == 0 {
                    store.delete(&name).await.unwrap();
                }
            }
        });
        (0..40).filter(|n| n % 4 != 0).map(move |n| name(&format!("{thread} {n}")))
    });
    let listed = block_on(store.list("")).unwrap();
    let listed: BTreeSet<_> = listed.into_iter().map(|info| info.name).collect();
    assert_eq!(listed, stored.into_iter().flatten().collect());
}

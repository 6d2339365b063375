//! The cache of packs' parts: its maps and file names, as a crash or somebody else may
//! have left them. What is read is as long as it was asked for and, where map and cached
//! bytes are right, what the store has.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::future::Future;
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};
use tgcryptfs::codec::Reader;
use tgcryptfs::crypto::PackId;
use tgcryptfs::data::parts::{PART_LEN, PartCache};
use tgcryptfs::store::{BlobStore, MemoryStore, ObjectName, PutMode};
use tgcryptfs_fuzz::scratch_dir;

const PACK: PackId = PackId([8; 16]);
/// Two parts and a little.
const PACK_LEN: u64 = 2 * PART_LEN + 100;

static NAME: LazyLock<ObjectName> = LazyLock::new(|| ObjectName::from_prf(&PACK.0));
static PACK_BYTES: LazyLock<Bytes> =
    LazyLock::new(|| (0..PACK_LEN).map(|at| (at % 251) as u8).collect());
static OTHER_BYTES: LazyLock<Bytes> = LazyLock::new(|| vec![7; PACK_LEN as usize].into());
static STORE: LazyLock<MemoryStore> = LazyLock::new(|| {
    let store = MemoryStore::new();
    now(store.put(&NAME, PACK_BYTES.clone(), PutMode::Overwrite)).expect("there is room");
    store
});

/// Nothing here ever waits.
fn now<T>(work: impl Future<Output = T>) -> T {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

fuzz_target!(|input: &[u8]| {
    let mut r = Reader::new(input);
    let (Ok(file_len), Ok(is_changed)) = (r.u32("file"), r.u8("changed")) else { return };
    let Ok(ranges) = r.array::<8>("ranges") else { return };
    let Ok(name_len) = r.u8("name") else { return };
    let Ok(other) = r.raw("name", name_len.into()) else { return };
    let map = r.rest();

    let dir = scratch_dir();
    let path = |ending: &str| dir.path().join(format!("{PACK}{ending}"));
    fs::write(path(".map"), map).expect("room in memory");
    // One value stands for no file at all.
    let kept_len = if file_len == u32::MAX { 0 } else { u64::from(file_len).min(PACK_LEN) };
    if file_len != u32::MAX {
        let bytes = if is_changed & 1 == 1 { &OTHER_BYTES } else { &PACK_BYTES };
        fs::write(path(".parts"), &bytes[..kept_len as usize]).expect("room in memory");
    }
    // What is not so is found by whoever opens what was read.
    let ends = (1..=PACK_LEN.div_ceil(PART_LEN)).map(|part| PACK_LEN.min(part * PART_LEN));
    let is_right = is_changed & 1 == 0
        && map.iter().zip(ends).all(|(flag, end)| *flag != 1 || end <= kept_len);
    // A stranger, whatever it is called; not every name can be given to a file.
    if let Ok(name) = std::str::from_utf8(other)
        && !name.starts_with(&PACK.to_string())
    {
        let _ = fs::write(dir.path().join(name.replace('/', "_")), map);
    }

    let cache = PartCache::open(dir.path()).expect("the directory can be read");
    assert!(
        cache.bytes() >= PART_LEN * map.iter().take(1 << 16).filter(|b| **b == 1).count() as u64
    );
    for range in ranges.chunks_exact(2) {
        let start = u64::from(range[0]) * PACK_LEN / 256;
        let end = start + u64::from(range[1]) * (PACK_LEN - start) / 255;
        let read = now(cache.read(&*STORE, &NAME, (PACK, PACK_LEN), start..end));
        let read = read.expect("the store has it");
        assert_eq!(read.len() as u64, end - start);
        assert!(!is_right || read == PACK_BYTES[start as usize..end as usize]);
    }
    cache.shrink(PART_LEN);
    assert!(cache.bytes() <= PART_LEN);
    cache.shrink(0);
    assert_eq!(cache.bytes(), 0);
    cache.forget(PACK);
    assert!(!path(".map").exists() && !path(".parts").exists());
});

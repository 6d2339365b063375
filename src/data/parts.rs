//! The cache of what was fetched from a store: parts of packs, still sealed.
//!
//! One sparse file a pack, and beside it a map of the parts that are there.
//! Neither is synced: what a crash leaves wrong fails to authenticate and is
//! fetched again. Whole packs are dropped, those not used the longest first.
//!
//! Files are opened for each access, so the number of packs costs no descriptors.
//! The cache is never in the way: where its files fail, the store is read.

use super::{Error, Result};
use crate::ids::PackId;
use crate::store::{BlobStore, ObjectName};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Unit of fetching and keeping: every Telegram request and every S3 range of
/// this size and alignment is valid.
pub const PART_LEN: u64 = 1 << 20;
/// Parts that a map may name: more than fit into the longest pack.
const PARTS_MAX: usize = 1 << 16;

#[derive(Default)]
struct Parts {
    /// Which parts the file holds; nothing once the pack is forgotten. Reading
    /// the file takes this for reading, changing it for writing.
    present: RwLock<Option<Vec<bool>>>,
    /// One fetch at a time per pack: whoever waited finds the parts there.
    fetching: tokio::sync::Mutex<()>,
    last_used: AtomicU64,
}

fn count(present: &[bool]) -> u64 {
    present.iter().filter(|is_there| **is_there).count() as u64 * PART_LEN
}

fn is_there(present: &[bool], part: u64) -> bool {
    present.get(part as usize).copied().unwrap_or(false)
}

/// The parts that `range` lies in.
fn parts_of(range: &Range<u64>) -> Range<u64> {
    range.start / PART_LEN..range.end.div_ceil(PART_LEN)
}

impl Parts {
    /// From the first to the last part in `wanted` that is not there.
    fn missing(&self, wanted: &Range<u64>) -> Option<Range<u64>> {
        let present = self.present.read();
        let is_missing = |part: &u64| present.as_ref().is_none_or(|known| !is_there(known, *part));
        let first = wanted.clone().find(is_missing)?;
        let last = wanted.clone().rev().find(is_missing)?;
        Some(first..last + 1)
    }
}

/// The parts that are here.
pub struct PartCache {
    dir: PathBuf,
    packs: Mutex<HashMap<PackId, Arc<Parts>>>,
    tick: AtomicU64,
    /// Bytes kept.
    kept_bytes: AtomicU64,
    /// Bytes fetched since the start.
    pub fetched_bytes: AtomicU64,
}

impl std::fmt::Debug for PartCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartCache").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl PartCache {
    /// Uses `dir`, which exists; keeps what an earlier run left there.
    pub fn open(dir: &Path) -> Result<Self> {
        let cache = Self {
            dir: dir.to_owned(),
            packs: Mutex::default(),
            tick: AtomicU64::new(0),
            kept_bytes: AtomicU64::new(0),
            fetched_bytes: AtomicU64::new(0),
        };
        let error = |source| Error::Cache { path: dir.to_owned(), source };
        for entry in std::fs::read_dir(dir).map_err(error)?.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(id) = name.strip_suffix(".map").and_then(parse_pack_id) {
                cache.take_up(id, &entry.path());
            } else if let Some(id) = name.strip_suffix(".parts").and_then(parse_pack_id)
                && !cache.paths(id).1.exists()
            {
                // A file without a map holds nothing.
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(cache)
    }

    /// Takes up what an earlier run left; a map that cannot be read is as good as
    /// none.
    fn take_up(&self, pack: PackId, map: &Path) {
        let mut flags = Vec::new();
        let read = File::open(map).and_then(|f| f.take(PARTS_MAX as u64).read_to_end(&mut flags));
        if read.is_err() {
            flags.clear();
        }
        let present: Vec<bool> = flags.iter().map(|flag| *flag == 1).collect();
        self.kept_bytes.fetch_add(count(&present), Ordering::Relaxed);
        *self.parts(pack).present.write() = Some(present);
    }

    fn paths(&self, pack: PackId) -> (PathBuf, PathBuf) {
        (self.dir.join(format!("{pack}.parts")), self.dir.join(format!("{pack}.map")))
    }

    fn parts(&self, pack: PackId) -> Arc<Parts> {
        let mut packs = self.packs.lock();
        let parts = packs.entry(pack).or_insert_with(|| {
            let present = RwLock::new(Some(Vec::new()));
            Arc::new(Parts { present, ..Parts::default() })
        });
        parts.last_used.store(self.tick.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        parts.clone()
    }

    /// Reads `range` of an object, fetching the parts that are missing in one
    /// request.
    pub async fn read(
        &self,
        store: &dyn BlobStore,
        name: &ObjectName,
        (pack, pack_len): (PackId, u64),
        range: Range<u64>,
    ) -> Result<Bytes> {
        let parts = self.parts(pack);
        let kept = match self.fetch(store, name, &parts, (pack, pack_len), &range).await {
            Err(Error::Cache { path, source }) => Err((path, source)),
            other => {
                other?;
                self.read_kept(&parts, pack, &range).map_err(|e| (self.paths(pack).0, e))
            }
        };
        match kept {
            Ok(Some(bytes)) => return Ok(bytes),
            // Dropped between the two.
            Ok(None) => {}
            Err((path, error)) => {
                log::warn!("{}: {error}; the store is read instead", path.display());
                self.forget(pack);
            }
        }
        get(store, name, pack, range).await
    }

    fn read_kept(
        &self,
        parts: &Parts,
        pack: PackId,
        range: &Range<u64>,
    ) -> io::Result<Option<Bytes>> {
        let present = parts.present.read();
        let is_kept = |known: &Vec<bool>| parts_of(range).all(|part| is_there(known, part));
        if !present.as_ref().is_some_and(is_kept) {
            return Ok(None);
        }
        let mut bytes = vec![0; (range.end - range.start) as usize];
        File::open(self.paths(pack).0)?.read_exact_at(&mut bytes, range.start)?;
        Ok(Some(bytes.into()))
    }

    async fn fetch(
        &self,
        store: &dyn BlobStore,
        name: &ObjectName,
        parts: &Parts,
        (pack, pack_len): (PackId, u64),
        range: &Range<u64>,
    ) -> Result<()> {
        let wanted = parts_of(range);
        if parts.missing(&wanted).is_none() {
            return Ok(());
        }
        let _only_one = parts.fetching.lock().await;
        let Some(run) = parts.missing(&wanted) else { return Ok(()) };
        let range = run.start * PART_LEN..(run.end * PART_LEN).min(pack_len);
        let body = get(store, name, pack, range).await?;
        self.fetched_bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        self.keep(parts, pack, &run, &body)
            .map_err(|source| Error::Cache { path: self.paths(pack).0, source })
    }

    fn keep(&self, parts: &Parts, pack: PackId, run: &Range<u64>, body: &[u8]) -> io::Result<()> {
        let mut present = parts.present.write();
        // Forgotten meanwhile: its files may be another's by now.
        let Some(present) = present.as_mut() else { return Ok(()) };
        let (file, map) = self.paths(pack);
        let open = |path| File::options().write(true).create(true).truncate(false).open(path);
        open(file)?.write_all_at(body, run.start * PART_LEN)?;
        open(map)?.write_all_at(&vec![1; (run.end - run.start) as usize], run.start)?;
        let before = count(present);
        present.resize(present.len().max(run.end as usize), false);
        present[run.start as usize..run.end as usize].fill(true);
        self.kept_bytes.fetch_add(count(present) - before, Ordering::Relaxed);
        Ok(())
    }

    /// Forgets a pack; says whether there was anything of it.
    pub fn forget(&self, pack: PackId) -> bool {
        let mut packs = self.packs.lock();
        let Some(parts) = packs.remove(&pack) else { return false };
        let mut present = parts.present.write();
        let bytes = present.take().as_deref().map_or(0, count);
        self.kept_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let (file, map) = self.paths(pack);
        // The map first: a file without one holds nothing. Absent is fine.
        let _ = std::fs::remove_file(map);
        let _ = std::fs::remove_file(file);
        bytes > 0
    }

    /// Bytes kept.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.kept_bytes.load(Ordering::Relaxed)
    }

    /// Drops packs, those not used the longest first, until at most `bytes_max`
    /// are left.
    pub fn shrink(&self, bytes_max: u64) {
        if self.bytes() <= bytes_max {
            return;
        }
        let mut by_use: Vec<_> = self
            .packs
            .lock()
            .iter()
            .map(|(pack, parts)| (parts.last_used.load(Ordering::Relaxed), *pack))
            .collect();
        by_use.sort_unstable();
        for (_, pack) in by_use {
            if self.bytes() <= bytes_max {
                break;
            }
            self.forget(pack);
        }
    }
}

/// Reads exactly `range` of a pack.
pub(super) async fn get(
    store: &dyn BlobStore,
    name: &ObjectName,
    pack: PackId,
    range: Range<u64>,
) -> Result<Bytes> {
    let len = range.end - range.start;
    let body = store.get(name, Some(range)).await?;
    if body.len() as u64 == len {
        Ok(body)
    } else {
        Err(super::pack::Error::Corrupt { pack, part: "length" }.into())
    }
}

/// Parses a pack's id as it is written in file names.
#[must_use]
pub fn parse_pack_id(hex: &str) -> Option<PackId> {
    let digits = hex.as_bytes();
    let is_lower_hex = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 32 || !digits.iter().all(is_lower_hex) {
        return None;
    }
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(PackId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_has_one_file_name() {
        let id = PackId([0xab; 16]);
        assert_eq!(parse_pack_id(&id.to_string()), Some(id));
        for text in ["", &"ab".repeat(15), &"ab".repeat(17), &"AB".repeat(16), &"+b".repeat(16)] {
            assert_eq!(parse_pack_id(text), None, "{text}");
        }
    }
}

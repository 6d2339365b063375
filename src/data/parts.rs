//! The cache of what was fetched from a store: parts of packs, still sealed.
//!
//! One sparse file a pack, and beside it a map of the parts that are there.
//! Neither is synced: what a crash leaves wrong fails to authenticate and is
//! fetched again. Whole packs are dropped, those not used the longest first.

use super::{Error, Result};
use crate::ids::PackId;
use crate::store::{BlobStore, ObjectName};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Unit of fetching and keeping: every Telegram request and every S3 range of
/// this size and alignment is valid.
pub const PART_LEN: u64 = 1 << 20;

struct Parts {
    file: File,
    map: File,
    present: Mutex<Vec<bool>>,
    /// One fetch at a time per pack: whoever waited finds the parts there.
    fetching: tokio::sync::Mutex<()>,
    last_used: AtomicU64,
}

impl Parts {
    fn bytes(&self) -> u64 {
        self.present.lock().iter().filter(|is_there| **is_there).count() as u64 * PART_LEN
    }
}

/// The parts that are here.
pub struct PartCache {
    dir: PathBuf,
    packs: Mutex<HashMap<PackId, Arc<Parts>>>,
    tick: AtomicU64,
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
            fetched_bytes: AtomicU64::new(0),
        };
        let listing = std::fs::read_dir(dir).map_err(|e| cache.error(dir.to_owned(), e))?;
        for entry in listing.flatten() {
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| parse_pack_id(name.strip_suffix(".map")?))
            else {
                continue;
            };
            // A file that does not open is as good as none.
            let _ = cache.parts(id);
        }
        Ok(cache)
    }

    fn error(&self, path: PathBuf, source: std::io::Error) -> Error {
        Error::Cache { path, source }
    }

    fn paths(&self, pack: PackId) -> (PathBuf, PathBuf) {
        (self.dir.join(format!("{pack}.parts")), self.dir.join(format!("{pack}.map")))
    }

    fn parts(&self, pack: PackId) -> Result<Arc<Parts>> {
        let mut packs = self.packs.lock();
        if let Some(parts) = packs.get(&pack) {
            parts.last_used.store(self.tick.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
            return Ok(parts.clone());
        }
        let (file_path, map_path) = self.paths(pack);
        let open = |path: &Path| {
            File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(|e| self.error(path.to_owned(), e))
        };
        let (file, map) = (open(&file_path)?, open(&map_path)?);
        let mut present = Vec::new();
        let len = map.metadata().map_or(0, |meta| meta.len()).min(1 << 16);
        let mut flags = vec![0; len as usize];
        if map.read_exact_at(&mut flags, 0).is_ok() {
            present = flags.into_iter().map(|flag| flag == 1).collect();
        }
        let parts = Arc::new(Parts {
            file,
            map,
            present: Mutex::new(present),
            fetching: tokio::sync::Mutex::default(),
            last_used: AtomicU64::new(self.tick.fetch_add(1, Ordering::Relaxed)),
        });
        packs.insert(pack, parts.clone());
        Ok(parts)
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
        let parts = self.parts(pack)?;
        let wanted = range.start / PART_LEN..range.end.div_ceil(PART_LEN);
        self.fetch(store, name, &parts, (pack, pack_len), wanted).await?;
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let path = || self.paths(pack).0;
        parts.file.read_exact_at(&mut bytes, range.start).map_err(|e| self.error(path(), e))?;
        Ok(bytes.into())
    }

    async fn fetch(
        &self,
        store: &dyn BlobStore,
        name: &ObjectName,
        parts: &Parts,
        (pack, pack_len): (PackId, u64),
        wanted: Range<u64>,
    ) -> Result<()> {
        let missing = |parts: &Parts| {
            let present = parts.present.lock();
            let is_missing = |part: &u64| !present.get(*part as usize).copied().unwrap_or(false);
            let first = wanted.clone().find(is_missing)?;
            let last = wanted.clone().rev().find(is_missing)?;
            Some(first..last + 1)
        };
        if missing(parts).is_none() {
            return Ok(());
        }
        let _only_one = parts.fetching.lock().await;
        let Some(run) = missing(parts) else { return Ok(()) };
        let bytes_wanted = run.start * PART_LEN..(run.end * PART_LEN).min(pack_len);
        let body = store.get(name, Some(bytes_wanted.clone())).await?;
        if body.len() as u64 != bytes_wanted.end - bytes_wanted.start {
            return Err(super::pack::Error::Corrupt { pack, part: "length" }.into());
        }
        self.fetched_bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        let keep = || -> std::io::Result<()> {
            parts.file.write_all_at(&body, bytes_wanted.start)?;
            let flags = vec![1; (run.end - run.start) as usize];
            parts.map.write_all_at(&flags, run.start)
        };
        keep().map_err(|e| self.error(self.dir.clone(), e))?;
        let mut present = parts.present.lock();
        let len = present.len().max(run.end as usize);
        present.resize(len, false);
        present[run.start as usize..run.end as usize].fill(true);
        Ok(())
    }

    /// Forgets a pack; says whether there was anything of it.
    pub fn forget(&self, pack: PackId) -> bool {
        let known = self.packs.lock().remove(&pack).is_some();
        let (file, map) = self.paths(pack);
        // The map first: a file without one holds nothing. Absent is fine.
        let _ = std::fs::remove_file(map);
        let _ = std::fs::remove_file(file);
        known
    }

    /// Bytes kept.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.packs.lock().values().map(|parts| parts.bytes()).sum()
    }

    /// Drops packs, those not used the longest first, until at most `bytes_max`
    /// are left.
    pub fn shrink(&self, bytes_max: u64) {
        let mut by_use: Vec<_> = self
            .packs
            .lock()
            .iter()
            .map(|(pack, parts)| (parts.last_used.load(Ordering::Relaxed), *pack, parts.bytes()))
            .collect();
        by_use.sort_unstable();
        let mut bytes: u64 = by_use.iter().map(|(_, _, bytes)| bytes).sum();
        for (_, pack, pack_bytes) in by_use {
            if bytes <= bytes_max {
                break;
            }
            self.forget(pack);
            bytes -= pack_bytes;
        }
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

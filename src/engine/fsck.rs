//! Verifying everything: the local database, the tree, and every block of every
//! file as the store has it.

use super::commit::blocking;
use super::{Engine, Error, Result};
use crate::crypto::names;
use crate::data;
use crate::data::blocks::{BlockType, Proof};
use crate::data::manifest;
use crate::log::object_name;
use crate::log::segment::Dep;
use crate::meta::db::{Key, Reader, Table};
use crate::meta::row::{Dent, Inode, PackState};
use crate::meta::state::{ROOT, decode_inode_row, malformed};
use crate::store::{self, ObjectName};
use bytes::Bytes;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::ops::{Range, RangeInclusive};
use vfs::ErrorKind;

use super::status::Progress;

/// Blocks of a file that are looked at together.
const BLOCKS_AT_A_TIME: u64 = 1 << 14;
/// Bytes of inodes in memory at a time.
const ROWS_LEN: usize = 1 << 20;
/// Inodes whose names are counted together, in one pass over all names.
const COUNTED_AT_A_TIME: usize = 1 << 20;
/// Names of a path at most.
const DEPTH_MAX: usize = 10_000;

/// What a check found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FsckReport {
    /// Files, directories and everything else that was looked at.
    pub inodes: u64,
    /// Blocks that were opened and verified.
    pub blocks: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// What is wrong, with the path; empty if nothing is.
    pub problems: Vec<String>,
}

/// Problems, and the inodes they are about: paths are looked up when all are known.
type Problems = Vec<(Option<u64>, String)>;

/// A name by inode, and the directory it is in.
type Places = HashMap<u64, (u64, Bytes)>;

/// What an inode says of its names, and how many there are.
struct Counted {
    ino: u64,
    nlink: u32,
    is_dir: bool,
    names: u32,
    subdirs: u32,
}

impl Engine {
    /// Verifies everything, as of the last commit that this call makes.
    pub async fn fsck(&self, progress: &dyn Progress) -> Result<FsckReport> {
        let inner = &self.inner;
        if !inner.settings.read_only {
            inner.commit_merged().await?;
        }
        let mut report = FsckReport::default();
        let db = inner.db.reader()?;
        report.problems.extend(db.check_file()?);
        let mut problems = Problems::new();
        blocking(|| db.snapshot(|db| check_names(db, &mut problems, progress)))?;
        let logs = self.confirmed_logs().await?;
        let listed = inner.store.list("").await?;
        let listed: HashMap<_, _> = listed.into_iter().map(|info| (info.name, info.size)).collect();
        self.check_logs(&logs, &listed, &mut report).await?;
        let (mut proof, lost) = Proof::begin(&inner.blocks, &listed).await?;
        report.problems.extend(lost);
        self.check_packs(&proof, &mut report).await?;
        progress.begin("verifying files", Some(db.count(Table::Ino)?));
        let mut last = 0;
        // What changes meanwhile is verified as it was or as it is: no block goes away.
        loop {
            let rows = db.piece(Table::Ino, (last, i64::MAX), ROWS_LEN)?;
            let Some((ino, _)) = rows.last() else { break };
            last = *ino;
            for (ino, row) in rows {
                let (inode, ..) = decode_inode_row(&row).map_err(|e| malformed(Table::Ino, e))?;
                let found = (&mut report, &mut problems);
                self.check_content(ino as u64, &inode, &mut proof, found).await?;
                progress.advance(1);
            }
        }
        progress.end();
        let places = blocking(|| db.snapshot(|db| find_places(db, &problems)))?;
        report.problems.extend(problems.into_iter().map(|(ino, text)| match ino {
            Some(ino) => format!("{}: {text}", path_of(ino, &places)),
            None => text,
        }));
        Ok(report)
    }

    async fn check_content(
        &self,
        ino: u64,
        inode: &Inode,
        proof: &mut Proof<'_>,
        (report, problems): (&mut FsckReport, &mut Problems),
    ) -> Result<()> {
        report.inodes += 1;
        let mut at = 0;
        // In pieces, so that a large file takes no more memory than a small one.
        while let Some(first) = self.next_piece(ino, inode, at, problems).await? {
            at = first.saturating_add(BLOCKS_AT_A_TIME);
            self.check_blocks((ino, inode), first..at, proof, (report, problems)).await?;
        }
        Ok(())
    }

    /// Every announced pack has the directory it was announced with. One that was out of
    /// reach or damaged when this machine learnt of it, and is whole now, is taken in.
    async fn check_packs(&self, proof: &Proof<'_>, report: &mut FsckReport) -> Result<()> {
        let (inner, db) = (&self.inner, self.inner.db.reader()?);
        for info in inner.blocks.packs_in(PackState::Announced) {
            if proof.is_lost(info.pack) {
                continue;
            }
            let entries = match inner.blocks.fetch_dir(&info).await {
                Ok(entries) => entries,
                Err(data::Error::Store(error)) if error.kind() != store::ErrorKind::NotFound => {
                    return Err(error.into());
                }
                Err(error) => {
                    let name = inner.blocks.pack_name(&info)?;
                    report.problems.push(format!("object {name}: {error}"));
                    continue;
                }
            };
            let Some((first, _)) = entries.first() else { continue };
            let is_known = db.get(Table::Block, Key::Bytes(&first.0))?.is_some();
            if !is_known && !inner.settings.read_only {
                inner.db.write(|txn| {
                    entries.iter().try_for_each(|(id, place)| {
                        txn.put(Table::Block, Key::Bytes(&id.0), &place.encode())
                    })
                })?;
            }
        }
        Ok(())
    }

    /// How far the store has confirmed each log: the own one without what is still
    /// to be sent.
    async fn confirmed_logs(&self) -> Result<Vec<(Dep, u64)>> {
        let publisher = self.inner.publisher.lock().await;
        let mut sending = u64::MAX;
        self.inner.db.reader()?.scan::<Error>(Table::Sending, |key, _| {
            sending = sending.min(key.try_into().map_or(0, u64::from_be_bytes));
            Ok(())
        })?;
        let others = publisher.seen.heads.iter().map(|log| (*log, log.seq + 1));
        let own = publisher.end().map(|log| (log, (log.seq + 1).min(sending)));
        Ok(others.chain(own).collect())
    }

    /// Looks whether the store has every segment that it has confirmed.
    async fn check_logs(
        &self,
        logs: &[(Dep, u64)],
        listed: &HashMap<ObjectName, u64>,
        report: &mut FsckReport,
    ) -> Result<()> {
        let epochs = &self.inner.blocks.keyring().epochs;
        for (log, end) in logs {
            for seq in 0..*end {
                let mut is_there = false;
                for keys in epochs.values().rev() {
                    let name = names::segment(keys, log.machine, log.incarnation, seq);
                    let name = object_name(&name);
                    // A listing may be older than what it is asked about.
                    is_there =
                        listed.contains_key(&name) || self.inner.store.size(&name).await?.is_some();
                    if is_there {
                        break;
                    }
                }
                if !is_there {
                    let machine = log.machine;
                    let what = format!("segment {seq} of machine {machine}: the store has lost it");
                    report.problems.push(what);
                }
            }
        }
        Ok(())
    }

    /// The first block of a file's content behind `from`, if its tree can be read.
    async fn next_piece(
        &self,
        ino: u64,
        inode: &Inode,
        from: u64,
        problems: &mut Problems,
    ) -> Result<Option<u64>> {
        let found = manifest::next_block(&self.inner.blocks, &inode.content, from..u64::MAX).await;
        match found.map_err(Error::from) {
            Err(error) if error.kind() == ErrorKind::Unavailable => Err(error),
            Err(error) => {
                problems.push((Some(ino), error.to_string()));
                Ok(None)
            }
            Ok(found) => Ok(found),
        }
    }

    async fn check_blocks(
        &self,
        (ino, inode): (u64, &Inode),
        range: Range<u64>,
        proof: &mut Proof<'_>,
        (report, problems): (&mut FsckReport, &mut Problems),
    ) -> Result<()> {
        let (blocks, size) = (&self.inner.blocks, self.inner.block_size);
        let found = async {
            let nodes = manifest::nodes_in(blocks, &inode.content, range.clone()).await?;
            let data = manifest::blocks_in(blocks, &inode.content, range).await?;
            Ok::<_, data::Error>((nodes, data))
        };
        let (nodes, data) = match found.await.map_err(Error::from) {
            Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
            Err(error) => {
                problems.push((Some(ino), error.to_string()));
                return Ok(());
            }
            Ok(found) => found,
        };
        let nodes = nodes.into_iter().map(|id| (BlockType::Tree, None, id));
        let data = data.into_iter().map(|(block, id)| (BlockType::Data, Some(block), id));
        for (kind, block, id) in nodes.chain(data) {
            match proof.verify(kind, id).await.map_err(Error::from) {
                Ok(len) => {
                    report.blocks += 1;
                    report.bytes += if block.is_some() { len } else { 0 };
                }
                Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
                Err(error) => {
                    let part = block.map_or_else(
                        || "its tree".to_owned(),
                        |block| {
                            let start = block * size;
                            format!("bytes {start} to {}", (start + size).min(inode.size))
                        },
                    );
                    problems.push((Some(ino), format!("{part}: {error}")));
                }
            }
        }
        Ok(())
    }
}

/// Compares inodes with names, a run of inodes at a time and all names for each run.
fn check_names(db: &Reader, problems: &mut Problems, progress: &dyn Progress) -> Result<()> {
    let runs = db.count(Table::Ino)?.div_ceil(COUNTED_AT_A_TIME as u64);
    progress.begin("verifying names", Some(runs * db.count(Table::Dent)?));
    let mut first = 0;
    loop {
        let mut counted = Vec::new();
        let mut last = first - 1;
        while counted.len() < COUNTED_AT_A_TIME {
            let rows = db.piece(Table::Ino, (last, i64::MAX), ROWS_LEN)?;
            for (ino, row) in &rows {
                let (inode, ..) = decode_inode_row(row).map_err(|e| malformed(Table::Ino, e))?;
                let (nlink, is_dir) = (inode.nlink, inode.is_dir());
                counted.push(Counted { ino: *ino as u64, nlink, is_dir, names: 0, subdirs: 0 });
            }
            last = rows.last().map_or(i64::MAX, |(ino, _)| *ino);
            if rows.is_empty() {
                break;
            }
        }
        let end = if last == i64::MAX { u64::MAX } else { last as u64 };
        count_names(db, first as u64..=end, &mut counted, problems, progress)?;
        counted.iter().for_each(|inode| check_links(inode, problems));
        if last == i64::MAX {
            progress.end();
            return Ok(());
        }
        first = last + 1;
    }
}

/// Counts the names of a run of inodes, and checks that names are where they should be.
fn count_names(
    db: &Reader,
    run: RangeInclusive<u64>,
    counted: &mut [Counted],
    problems: &mut Problems,
    progress: &dyn Progress,
) -> Result<()> {
    db.scan::<Error>(Table::Dent, |key, row| {
        let dent = Dent::decode(row).map_err(|e| malformed(Table::Dent, e))?;
        let parent = key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let mut leads_somewhere = true;
        for (ino, is_parent) in [(dent.ino, false), (parent, true)] {
            if !run.contains(&ino) {
                continue;
            }
            match counted.binary_search_by_key(&ino, |inode| inode.ino) {
                Ok(at) if is_parent => counted[at].subdirs += u32::from(dent.kind == 2),
                Ok(at) => counted[at].names += 1,
                Err(_) => leads_somewhere = false,
            }
        }
        if !leads_somewhere {
            let name = dent.name.escape_ascii();
            let what = format!("entry \"{name}\" of inode {parent} leads nowhere");
            problems.push((None, what));
        }
        if run.contains(&dent.ino)
            && db.get(Table::Link, Key::Bytes(&dent.link.0))?.as_deref() != Some(key)
        {
            problems.push((None, format!("link {} is not where it should be", dent.link)));
        }
        progress.advance(1);
        Ok(())
    })
}

fn check_links(inode: &Counted, problems: &mut Problems) {
    let names = inode.names;
    if inode.is_dir && names != u32::from(inode.ino != ROOT) {
        problems.push((Some(inode.ino), format!("a directory with {names} names")));
    }
    let expected = if inode.is_dir { 2 + inode.subdirs } else { names };
    if inode.nlink != expected {
        let what = format!("counts {} links, has {expected}", inode.nlink);
        problems.push((Some(inode.ino), what));
    }
}

/// A name of each inode that there is a problem with, and of each directory above it:
/// one pass over all names for each level.
fn find_places(db: &Reader, problems: &Problems) -> Result<Places> {
    let mut places = Places::new();
    let mut wanted: HashSet<u64> = problems.iter().filter_map(|(ino, _)| *ino).collect();
    while !wanted.is_empty() {
        let mut above = HashSet::new();
        db.scan::<Error>(Table::Dent, |key, row| {
            let dent = Dent::decode(row).map_err(|e| malformed(Table::Dent, e))?;
            if wanted.contains(&dent.ino) {
                let parent = key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
                places.insert(dent.ino, (parent, dent.name));
                above.insert(parent);
            }
            Ok(())
        })?;
        above.retain(|ino| *ino != ROOT && !places.contains_key(ino));
        wanted = above;
    }
    Ok(places)
}

fn path_of(ino: u64, places: &Places) -> String {
    let (mut at, mut parts) = (ino, Vec::new());
    while at != ROOT {
        // A name that nothing leads to, or that leads to itself.
        let Some((parent, name)) = places.get(&at).filter(|_| parts.len() < DEPTH_MAX) else {
            return format!("inode {ino}");
        };
        parts.push(name.escape_ascii().to_string());
        at = *parent;
    }
    parts.reverse();
    format!("/{}", parts.join("/"))
}

//! Verifying everything: the local database, the tree, and every block of every
//! file as the store has it.

use super::{Engine, Error, Result};
use crate::crypto::names;
use crate::data;
use crate::data::blocks::{BlockType, Proof};
use crate::data::manifest;
use crate::log::object_name;
use crate::log::segment::Dep;
use crate::meta::db::{Key, Table};
use crate::meta::row::{Dent, Inode, PackState};
use crate::meta::state::{ROOT, decode_inode_row, malformed};
use crate::store::{self, ObjectName};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use vfs::ErrorKind;

use super::status::Progress;

/// Blocks of a file that are looked at together.
const BLOCKS_AT_A_TIME: u64 = 1 << 14;

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

/// The tree by inode: how to find a path.
#[derive(Default)]
struct Tree {
    places: HashMap<u64, (u64, Vec<u8>)>,
    links: HashMap<u64, u32>,
    subdirs: HashMap<u64, u32>,
}

impl Tree {
    fn path(&self, ino: u64) -> String {
        let (mut at, mut parts) = (ino, Vec::new());
        while at != ROOT {
            let Some((parent, name)) = self.places.get(&at) else {
                return format!("inode {ino}");
            };
            parts.push(name.escape_ascii().to_string());
            at = *parent;
            if parts.len() > 10_000 {
                return format!("inode {ino}");
            }
        }
        parts.reverse();
        format!("/{}", parts.join("/"))
    }
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
        db.begin_snapshot()?;
        let mut inodes = BTreeMap::new();
        db.scan::<Error>(Table::Ino, |key, row| {
            let ino = key.try_into().map_or(0, u64::from_be_bytes);
            let (inode, ..) = decode_inode_row(row).map_err(|e| malformed(Table::Ino, e))?;
            inodes.insert(ino, inode);
            Ok(())
        })?;
        let mut tree = Tree::default();
        db.scan::<Error>(Table::Dent, |key, row| {
            let dent = Dent::decode(row).map_err(|e| malformed(Table::Dent, e))?;
            let parent = key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
            *tree.links.entry(dent.ino).or_default() += 1;
            *tree.subdirs.entry(parent).or_default() += u32::from(dent.kind == 2);
            if !inodes.contains_key(&dent.ino) || !inodes.contains_key(&parent) {
                let name = dent.name.escape_ascii();
                report.problems.push(format!("entry \"{name}\" of inode {parent} leads nowhere"));
            }
            if db.get(Table::Link, Key::Bytes(&dent.link.0))?.as_deref() != Some(key) {
                report.problems.push(format!("link {} is not where it should be", dent.link));
            }
            tree.places.insert(dent.ino, (parent, dent.name.to_vec()));
            Ok(())
        })?;
        db.end_snapshot()?;
        let logs = self.confirmed_logs().await?;
        let listed = inner.store.list("").await?;
        let listed: HashMap<_, _> = listed.into_iter().map(|info| (info.name, info.size)).collect();
        self.check_logs(&logs, &listed, &mut report).await?;
        let (mut proof, lost) = Proof::begin(&inner.blocks, &listed).await?;
        report.problems.extend(lost);
        self.check_packs(&proof, &mut report).await?;
        progress.begin("verifying files", Some(inodes.len() as u64));
        for (ino, inode) in &inodes {
            report.inodes += 1;
            check_links(*ino, inode, &tree, &mut report);
            let mut at = 0;
            // In pieces, so that a large file takes no more memory than a small one.
            while let Some(first) = self.next_piece(*ino, inode, at, &tree, &mut report).await? {
                at = first.saturating_add(BLOCKS_AT_A_TIME);
                let path = || tree.path(*ino);
                self.check_blocks(inode, first..at, &mut proof, &path, &mut report).await?;
            }
            progress.advance(1);
        }
        progress.end();
        Ok(report)
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
        tree: &Tree,
        report: &mut FsckReport,
    ) -> Result<Option<u64>> {
        let found = manifest::next_block(&self.inner.blocks, &inode.content, from..u64::MAX).await;
        match found.map_err(Error::from) {
            Err(error) if error.kind() == ErrorKind::Unavailable => Err(error),
            Err(error) => {
                report.problems.push(format!("{}: {error}", tree.path(ino)));
                Ok(None)
            }
            Ok(found) => Ok(found),
        }
    }

    async fn check_blocks(
        &self,
        inode: &Inode,
        range: Range<u64>,
        proof: &mut Proof<'_>,
        path: &(dyn Fn() -> String + Sync),
        report: &mut FsckReport,
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
                report.problems.push(format!("{}: {error}", path()));
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
                    report.problems.push(format!("{}: {part}: {error}", path()));
                }
            }
        }
        Ok(())
    }
}

fn check_links(ino: u64, inode: &Inode, tree: &Tree, report: &mut FsckReport) {
    let names = tree.links.get(&ino).copied().unwrap_or(0);
    let expected = if inode.is_dir() {
        if names != u32::from(ino != ROOT) {
            report.problems.push(format!("{}: a directory with {names} names", tree.path(ino)));
        }
        2 + tree.subdirs.get(&ino).copied().unwrap_or(0)
    } else {
        names
    };
    if inode.nlink != expected {
        let path = tree.path(ino);
        report.problems.push(format!("{path}: counts {} links, has {expected}", inode.nlink));
    }
}

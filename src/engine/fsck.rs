//! Verifying everything: the local database, the tree, and every block of every
//! file as the store has it.

use super::{Engine, Result};
use crate::data;
use crate::data::blocks::BlockType;
use crate::data::manifest;
use crate::log::op::Content;
use crate::meta::db::{Key, Table};
use crate::meta::row::{Dent, Inode, PackState};
use crate::meta::state::{ROOT, decode_inode_row, malformed};
use crate::store::ErrorKind;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

use super::status::Progress;

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
        db.scan::<super::Error>(Table::Ino, |key, row| {
            let ino = key.try_into().map_or(0, u64::from_be_bytes);
            let (inode, ..) = decode_inode_row(row).map_err(|e| malformed(Table::Ino, e))?;
            inodes.insert(ino, inode);
            Ok(())
        })?;
        let mut tree = Tree::default();
        db.scan::<super::Error>(Table::Dent, |key, row| {
            let dent = Dent::decode(row).map_err(|e| malformed(Table::Dent, e))?;
            let parent = key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
            *tree.links.entry(dent.ino).or_default() += 1;
            *tree.subdirs.entry(parent).or_default() += u32::from(dent.kind == 2);
            if !inodes.contains_key(&dent.ino) || !inodes.contains_key(&parent) {
                let name = dent.name.escape_ascii();
                report.problems.push(format!("entry {name:?} of inode {parent} leads nowhere"));
            }
            if db.get(Table::Link, Key::Bytes(&dent.link.0))?.as_deref() != Some(key) {
                report.problems.push(format!("link {} is not where it should be", dent.link));
            }
            tree.places.insert(dent.ino, (parent, dent.name.to_vec()));
            Ok(())
        })?;
        db.end_snapshot()?;
        self.check_packs(&mut report).await?;
        progress.begin("verifying files", Some(inodes.len() as u64));
        for (ino, inode) in &inodes {
            report.inodes += 1;
            check_links(*ino, inode, &tree, &mut report);
            self.check_content(*ino, inode, &tree, &mut report).await;
            progress.advance(1);
        }
        progress.end();
        Ok(report)
    }

    /// Every announced pack has the directory it was announced with. One that was out of
    /// reach or damaged when this machine learnt of it, and is whole now, is taken in.
    async fn check_packs(&self, report: &mut FsckReport) -> Result<()> {
        let (inner, db) = (&self.inner, self.inner.db.reader()?);
        for info in inner.blocks.packs_in(PackState::Announced) {
            let entries = match inner.blocks.fetch_dir(&info).await {
                Ok(entries) => entries,
                Err(data::Error::Store(error)) if error.kind() != ErrorKind::NotFound => {
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

    async fn check_content(&self, ino: u64, inode: &Inode, tree: &Tree, report: &mut FsckReport) {
        if !matches!(inode.content, Content::Tree { .. }) {
            return;
        }
        let (blocks, size) = (&self.inner.blocks, self.inner.block_size);
        let found = match manifest::blocks_in(blocks, &inode.content, 0..u64::MAX).await {
            Ok(found) => found,
            Err(error) => {
                report.problems.push(format!("{}: {error}", tree.path(ino)));
                return;
            }
        };
        for (block, id) in found {
            match blocks.verify(BlockType::Data, id).await {
                Ok(len) => {
                    report.blocks += 1;
                    report.bytes += len;
                }
                Err(error) => {
                    let start = block * size;
                    let end = (start + size).min(inode.size);
                    let path = tree.path(ino);
                    report.problems.push(format!("{path}: bytes {start} to {end}: {error}"));
                }
            }
        }
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

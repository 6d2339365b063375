//! Checkpoints: the whole state at a cut of the log, as a search tree whose
//! shape depends on its rows alone (`docs/FORMAT.md` §10).
//!
//! Where a node ends is decided by a keyed hash of the row that ends it, so equal
//! states have equal roots whatever the history, and two trees share the nodes
//! of what did not change.

use super::row::Inode;
use crate::codec::{DecodeError, Problem, Reader, Result, Writer};
use crate::crypto::Key32;
use crate::ids::{BlockId, LinkId, PackId};
use crate::log::record::PackInfo;
use bytes::Bytes;
use vfs::Name;

/// Bytes of entries at which a node ends whatever its keys are.
pub const NODE_LEN: usize = 16 << 10;
/// Longest node, bytes: a node that is not full yet and the largest row.
pub const NODE_LEN_MAX: usize = 256 << 10;
/// Deepest tree: nodes have 2 entries at least, all but those at the end.
pub const LEVEL_MAX: u8 = 40;

const TAG: u8 = 0x02;
const KEY_LEN_MAX: usize = 1 + 8 + Name::LEN_MAX;
/// One key in this many ends a node.
const FAN_OUT: u32 = 64;

const INODE: u8 = 0x02;
const DENTRY: u8 = 0x03;
const PACK: u8 = 0x04;

/// One row of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// An inode that has a name, or is the root.
    Inode {
        /// Its number.
        ino: u64,
        /// Everything else about it.
        inode: Inode,
    },
    /// A name.
    Dentry {
        /// The directory.
        parent: u64,
        /// The name in it.
        name: Bytes,
        /// The link.
        link: LinkId,
        /// What it names.
        ino: u64,
    },
    /// A pack that the log announced.
    Pack(PackInfo),
}

impl Row {
    /// The key; rows are in ascending order of these bytes.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(32);
        match self {
            Self::Inode { ino, .. } => w.u8(INODE).u64be(*ino),
            Self::Dentry { parent, name, .. } => w.u8(DENTRY).u64be(*parent).raw(name),
            Self::Pack(info) => w.u8(PACK).raw(&info.pack.0),
        };
        w.into_vec()
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(160);
        match self {
            Self::Inode { inode, .. } => inode.encode(&mut w),
            Self::Dentry { link, ino, .. } => drop(w.raw(&link.0).u64(*ino)),
            Self::Pack(info) => drop(w.u32(info.epoch).u64(info.size).raw(&info.dir_hash.0)),
        }
        w.into_vec()
    }

    /// Reads one.
    pub fn decode(key: &[u8], value: &[u8]) -> std::result::Result<Self, DecodeError> {
        let (mut k, mut v) = (Reader::new(key), Reader::new(value));
        let row = match k.u8("row kind")? {
            INODE => Self::Inode { ino: k.u64be("inode number")?, inode: Inode::decode(&mut v)? },
            DENTRY => {
                let parent = k.u64be("directory")?;
                let at = k.offset();
                let name = Bytes::copy_from_slice(k.rest());
                if Name::new(&name).is_err() {
                    let rule = "a name is 1 to 255 bytes, without / and NUL, not . or ..";
                    return Err(k.error_at(at, "name", Problem::Invalid { rule }));
                }
                let link = LinkId(v.array("link")?);
                Self::Dentry { parent, name, link, ino: v.u64("inode number")? }
            }
            PACK => Self::Pack(PackInfo {
                pack: PackId(k.array("pack")?),
                epoch: v.u32("epoch")?,
                size: v.u64("size")?,
                dir_hash: crate::ids::Hash(v.array("directory hash")?),
            }),
            value => {
                return Err(k.error_at(0, "row kind", Problem::Unknown { value: value.into() }));
            }
        };
        k.finish("row key")?;
        v.finish("row value")?;
        Ok(row)
    }
}

/// A node of the tree, parsed.
#[derive(Debug)]
pub enum Node {
    /// Rows, keys ascending.
    Leaf(Vec<(Vec<u8>, Vec<u8>)>),
    /// Nodes of the level below with their first keys, ascending.
    Interior(Vec<(Vec<u8>, BlockId)>),
}

impl Node {
    /// Reads a node that should be of `level`.
    pub fn decode(bytes: &[u8], level: u8) -> std::result::Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let (tag, found) = (r.u8("tag")?, r.u8("level")?);
        if (tag, found) != (TAG, level) {
            let rule = "a node says what it is and which level it is of";
            return Err(r.error_at(0, "node", Problem::Invalid { rule }));
        }
        let key = |r: &mut Reader<'_>| Ok(r.lp("key", KEY_LEN_MAX)?.to_vec());
        let node = if level == 0 {
            let rows = |r: &mut Reader<'_>| Ok((key(r)?, r.lp("value", NODE_LEN_MAX)?.to_vec()));
            Self::Leaf(ascending(&mut r, rows)?)
        } else {
            let below = |r: &mut Reader<'_>| Ok((key(r)?, BlockId(r.array("node id")?)));
            Self::Interior(ascending(&mut r, below)?)
        };
        r.finish("node")?;
        Ok(node)
    }
}

/// A list whose keys ascend.
fn ascending<T>(
    r: &mut Reader<'_>,
    item: impl Fn(&mut Reader<'_>) -> Result<(Vec<u8>, T)>,
) -> Result<Vec<(Vec<u8>, T)>> {
    let at = r.offset();
    let items = r.list("entries", NODE_LEN_MAX / 8, 8, item)?;
    if items.is_sorted_by(|a, b| a.0 < b.0) {
        return Ok(items);
    }
    let rule = "keys ascend";
    Err(r.error_at(at, "entries", Problem::Invalid { rule }))
}

/// The root of a finished tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// Its id.
    pub id: BlockId,
    /// Its level; 0 is a leaf.
    pub level: u8,
    /// Rows in the tree.
    pub rows: u64,
    /// Bytes of all nodes.
    pub len: u64,
}

/// Builds a tree from rows in order; memory is one node a level. `keep` takes each
/// finished node and answers its id.
#[derive(Debug)]
pub struct TreeBuilder<'a, K> {
    key: &'a Key32,
    keep: K,
    levels: Vec<Level>,
    rows: u64,
    len: u64,
}

/// The node that is being filled at one level.
#[derive(Debug, Default)]
struct Level {
    first_key: Vec<u8>,
    entries: Writer,
    count: usize,
    /// The first node of the level: the root, unless another follows.
    first: Option<(Vec<u8>, BlockId)>,
    has_more: bool,
}

impl<'a, K, E> TreeBuilder<'a, K>
where
    K: FnMut(&[u8]) -> std::result::Result<BlockId, E>,
{
    /// Starts a tree under the tree key of a namespace.
    pub fn new(key: &'a Key32, keep: K) -> Self {
        Self { key, keep, levels: vec![Level::default()], rows: 0, len: 0 }
    }

    /// Adds the next row.
    pub fn push(&mut self, row: &Row) -> std::result::Result<(), E> {
        let key = row.key();
        self.rows += 1;
        self.add(0, key, |entries| {
            entries.lp(&row.value());
        })
    }

    fn ends_node(&self, level: usize, key: &[u8]) -> bool {
        let mut hasher = blake3::Hasher::new_keyed(self.key.expose());
        hasher.update(&[level as u8]).update(key);
        let hash = hasher.finalize();
        let [a, b, c, d] = *hash.as_bytes().first_chunk::<4>().expect("a hash has 32 bytes");
        u32::from_le_bytes([a, b, c, d]) < u32::MAX / FAN_OUT + 1
    }

    fn add(
        &mut self,
        level: usize,
        key: Vec<u8>,
        value: impl FnOnce(&mut Writer),
    ) -> std::result::Result<(), E> {
        let ends = self.ends_node(level, &key);
        if self.levels.len() == level {
            self.levels.push(Level::default());
        }
        let at = &mut self.levels[level];
        at.entries.lp(&key);
        value(&mut at.entries);
        if at.count == 0 {
            at.first_key = key;
        }
        at.count += 1;
        if ends || at.entries.len() >= NODE_LEN { self.end_node(level) } else { Ok(()) }
    }

    fn end_node(&mut self, level: usize) -> std::result::Result<(), E> {
        let at = &mut self.levels[level];
        let mut node = Writer::with_capacity(at.entries.len() + 6);
        node.u8(TAG).u8(level as u8).count(at.count).raw(at.entries.as_slice());
        at.entries = Writer::new();
        at.count = 0;
        let key = std::mem::take(&mut at.first_key);
        self.len += node.len() as u64;
        let id = (self.keep)(node.as_slice())?;
        let at = &mut self.levels[level];
        // The first node waits: it is the root if no other follows.
        if at.first.is_none() && !at.has_more {
            at.first = Some((key, id));
            return Ok(());
        }
        at.has_more = true;
        if let Some((first_key, first)) = at.first.take() {
            self.add(level + 1, first_key, |entries| {
                entries.raw(&first.0);
            })?;
        }
        self.add(level + 1, key, |entries| {
            entries.raw(&id.0);
        })
    }

    /// Ends the tree.
    pub fn finish(mut self) -> std::result::Result<Root, E> {
        let mut level = 0;
        loop {
            let at = &self.levels[level];
            if at.count > 0 || (level == 0 && at.first.is_none() && !at.has_more) {
                self.end_node(level)?;
            }
            if let Some((_, id)) = self.levels[level].first {
                let (rows, len) = (self.rows, self.len);
                return Ok(Root { id, level: level as u8, rows, len });
            }
            level += 1;
        }
    }
}

#[cfg(test)]
mod tests;

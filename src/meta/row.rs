//! The rows of the folded state, as they are sealed into the local database and
//! written into checkpoints (`docs/FORMAT.md` §10).

use crate::codec::{DecodeError, Problem, Reader, Result, Writer};
use crate::ids::{LinkId, PackId};
use crate::log::op::{Content, Node, XATTR_LEN_MAX, file_len, mode, xattr_name};
use crate::log::record::PackInfo;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use vfs::{Name, Timestamp};

#[cfg(test)]
mod tests;

/// Extended attributes of one inode, names and values together, bytes (as ext4
/// and XFS allow in practice).
pub const XATTRS_LEN_MAX: usize = 65_536;
/// Most extended attributes of one inode.
const XATTRS_COUNT_MAX: usize = XATTRS_LEN_MAX;

/// Extended attributes by name.
pub type Xattrs = BTreeMap<Bytes, Bytes>;

/// Everything about an inode but its number and its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// What it is.
    pub node: Node,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names; for a directory 2 plus its subdirectories.
    pub nlink: u32,
    /// Length, bytes.
    pub size: u64,
    /// Bytes in use.
    pub used: u64,
    /// Last read.
    pub atime: Timestamp,
    /// Last change of the data.
    pub mtime: Timestamp,
    /// Last change; rises with every change.
    pub ctime: Timestamp,
    /// Creation.
    pub btime: Timestamp,
    /// The data of a file.
    pub content: Content,
    /// Extended attributes; shared, since they rarely change.
    pub xattrs: Arc<Xattrs>,
}

impl Inode {
    /// A new inode without names.
    #[must_use]
    pub fn new(node: Node, mode: u16, uid: u32, gid: u32, time: Timestamp) -> Self {
        let size = match &node {
            Node::Symlink(target) => target.len() as u64,
            _ => 0,
        };
        let nlink = if node == Node::Directory { 2 } else { 0 };
        Self {
            node,
            mode,
            uid,
            gid,
            nlink,
            size,
            used: 0,
            atime: time,
            mtime: time,
            ctime: time,
            btime: time,
            content: Content::Empty,
            xattrs: Arc::default(),
        }
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.node == Node::Directory
    }

    /// Bytes of data and extended attributes in it.
    #[must_use]
    pub fn extra_len(&self) -> usize {
        let inline = match &self.content {
            Content::Inline(bytes) => bytes.len(),
            Content::Empty | Content::Tree { .. } => 0,
        };
        let xattrs = self.xattrs.iter().map(|(name, value)| name.len() + value.len());
        inline + xattrs.sum::<usize>()
    }

    /// Appends the encoding.
    pub fn encode(&self, w: &mut Writer) {
        self.node.encode(w);
        w.u16(self.mode).u32(self.uid).u32(self.gid).u32(self.nlink).u64(self.size);
        w.u64(self.used);
        w.time(self.atime).time(self.mtime).time(self.ctime).time(self.btime);
        self.content.encode(w);
        w.list(self.xattrs.iter(), |w, (name, value)| {
            w.lp(name).lp(value);
        });
    }

    /// Reads one.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            node: Node::decode(r)?,
            mode: mode(r)?,
            uid: r.u32("uid")?,
            gid: r.u32("gid")?,
            nlink: r.u32("nlink")?,
            size: file_len(r, "size")?,
            used: file_len(r, "used")?,
            atime: r.time("atime")?,
            mtime: r.time("mtime")?,
            ctime: r.time("ctime")?,
            btime: r.time("btime")?,
            content: Content::decode(r)?,
            xattrs: decode_xattrs(r)?,
        })
    }
}

fn decode_xattrs(r: &mut Reader<'_>) -> Result<Arc<Xattrs>> {
    let at = r.offset();
    let pairs = r.list("attributes", XATTRS_COUNT_MAX, 9, |r| {
        let name = xattr_name(r)?;
        Ok((name, Bytes::copy_from_slice(r.lp("value", XATTR_LEN_MAX)?)))
    })?;
    if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
        let rule = "attribute names ascend";
        return Err(r.error_at(at, "attributes", Problem::Invalid { rule }));
    }
    Ok(Arc::new(pairs.into_iter().collect()))
}

/// A directory entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dent {
    /// The link it shows.
    pub link: LinkId,
    /// What it names.
    pub ino: u64,
    /// What kind of thing that is, as in the encoding of [`Node`].
    pub kind: u8,
    /// The name.
    pub name: Bytes,
}

impl Dent {
    /// The encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(32 + self.name.len());
        w.raw(&self.link.0).u64(self.ino).u8(self.kind).lp(&self.name);
        w.into_vec()
    }

    /// Reads one.
    pub fn decode(bytes: &[u8]) -> std::result::Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let dent = Self {
            link: LinkId(r.array("link")?),
            ino: r.u64("inode number")?,
            kind: r.u8("kind")?,
            name: Bytes::copy_from_slice(r.lp("name", Name::LEN_MAX)?),
        };
        r.finish("directory entry")?;
        Ok(dent)
    }
}

/// How far a pack has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PackState {
    /// Blocks are still appended; what counts is up to the given length.
    Open,
    /// Closed with its directory, waiting for the store.
    Closed,
    /// In the store, not yet announced.
    Uploaded,
    /// Announced in the log.
    Announced,
}

/// What this machine knows of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackRow {
    /// How far it has come.
    pub state: PackState,
    /// What is, or will be, announced; the size of an open pack is the length
    /// up to the last commit.
    pub info: PackInfo,
}

impl PackRow {
    /// The encoding; the pack's id is the row's key.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let state = match self.state {
            PackState::Open => 1,
            PackState::Closed => 2,
            PackState::Uploaded => 3,
            PackState::Announced => 4,
        };
        let mut w = Writer::with_capacity(48);
        w.u8(state).u32(self.info.epoch).u64(self.info.size).raw(&self.info.dir_hash.0);
        w.into_vec()
    }

    /// Reads one.
    pub fn decode(pack: PackId, bytes: &[u8]) -> std::result::Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let state = r.code("pack state", |code| {
            Some(match code {
                1 => PackState::Open,
                2 => PackState::Closed,
                3 => PackState::Uploaded,
                4 => PackState::Announced,
                _ => return None,
            })
        })?;
        let info = PackInfo {
            pack,
            epoch: r.u32("epoch")?,
            size: r.u64("size")?,
            dir_hash: crate::ids::Hash(r.array("directory hash")?),
        };
        r.finish("pack row")?;
        Ok(Self { state, info })
    }
}

/// Where a block lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockPlace {
    /// The pack.
    pub pack: PackId,
    /// Where its record starts in it.
    pub offset: u32,
    /// Length of the record, bytes.
    pub sealed_len: u32,
    /// Length of the plaintext, bytes.
    pub plain_len: u32,
    /// Key epoch.
    pub epoch: u32,
    /// Compression.
    pub codec: u8,
    /// Object type: data block or tree node.
    pub kind: u8,
}

impl BlockPlace {
    /// Where its record lies in the pack.
    #[must_use]
    pub fn range(&self) -> std::ops::Range<u64> {
        let start = u64::from(self.offset);
        start..start + u64::from(self.sealed_len)
    }

    /// The encoding; the block's id is the row's key.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(34);
        w.raw(&self.pack.0).u32(self.offset).u32(self.sealed_len).u32(self.plain_len);
        w.u32(self.epoch).u8(self.codec).u8(self.kind);
        w.into_vec()
    }

    /// Reads one.
    pub fn decode(bytes: &[u8]) -> std::result::Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let place = Self {
            pack: PackId(r.array("pack")?),
            offset: r.u32("offset")?,
            sealed_len: r.u32("sealed length")?,
            plain_len: r.u32("plain length")?,
            epoch: r.u32("epoch")?,
            codec: r.u8("codec")?,
            kind: r.u8("type")?,
        };
        r.finish("block place")?;
        Ok(place)
    }
}

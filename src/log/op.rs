//! Ops: what machines tell each other (`docs/FORMAT.md` §9).

use crate::codec::{DecodeError, Problem, Reader, Result, Writer};
use crate::ids::{BlockId, Hash, Hlc, LinkId, PackId};
use bytes::Bytes;
use vfs::{Kind, Name, Timestamp};

/// Longest target of a symbolic link, bytes (Linux `PATH_MAX` less its NUL).
pub const TARGET_LEN_MAX: usize = 4095;
/// Largest file kept in its inode instead of in blocks, bytes.
pub const INLINE_LEN_MAX: usize = 3584;
/// Longest extended attribute, bytes (Linux `XATTR_SIZE_MAX`).
pub const XATTR_LEN_MAX: usize = 65_536;
/// Longest file, bytes, holes counted; and the most bytes one may use.
pub const FILE_LEN_MAX: u64 = 1 << 62;
/// Deepest manifest: 256^5 blocks are more than 2^63 bytes.
pub const DEPTH_MAX: u8 = 5;
/// Most ops in one group.
pub const GROUP_OPS_MAX: usize = 1024;

/// What kind of thing an inode is, with what only that kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A file with data.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link and where it points.
    Symlink(Bytes),
    /// A named pipe.
    Fifo,
    /// A Unix domain socket's name.
    Socket,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

impl Node {
    /// The kind as the `Vfs` trait names it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match *self {
            Self::Regular => Kind::Regular,
            Self::Directory => Kind::Directory,
            Self::Symlink(_) => Kind::Symlink,
            Self::Fifo => Kind::Fifo,
            Self::Socket => Kind::Socket,
            Self::CharDevice { major, minor } => Kind::CharDevice { major, minor },
            Self::BlockDevice { major, minor } => Kind::BlockDevice { major, minor },
        }
    }

    /// Appends the encoding.
    pub fn encode(&self, w: &mut Writer) {
        match self {
            Self::Regular => w.u8(1),
            Self::Directory => w.u8(2),
            Self::Symlink(target) => w.u8(3).lp(target),
            Self::Fifo => w.u8(4),
            Self::Socket => w.u8(5),
            Self::CharDevice { major, minor } => w.u8(6).u32(*major).u32(*minor),
            Self::BlockDevice { major, minor } => w.u8(7).u32(*major).u32(*minor),
        };
    }

    /// Reads one.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let at = r.offset();
        Ok(match r.u8("kind")? {
            1 => Self::Regular,
            2 => Self::Directory,
            3 => {
                let target = r.lp("target", TARGET_LEN_MAX)?;
                if target.is_empty() || target.contains(&0) {
                    let rule = "a link's target is not empty and holds no NUL";
                    return Err(r.error_at(at, "target", Problem::Invalid { rule }));
                }
                Self::Symlink(Bytes::copy_from_slice(target))
            }
            4 => Self::Fifo,
            5 => Self::Socket,
            6 => Self::CharDevice { major: r.u32("major")?, minor: r.u32("minor")? },
            7 => Self::BlockDevice { major: r.u32("major")?, minor: r.u32("minor")? },
            value => {
                return Err(r.error_at(at, "kind", Problem::Unknown { value: value.into() }));
            }
        })
    }
}

/// The data of a file (`docs/FORMAT.md` §7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// Nothing but zeros.
    #[default]
    Empty,
    /// The bytes themselves; what the size leaves beyond them is zero.
    Inline(Bytes),
    /// A tree of blocks.
    Tree {
        /// 0: the id is a data block's; d ≥ 1: a manifest node's of level d-1.
        depth: u8,
        /// The root.
        root: BlockId,
    },
}

impl Content {
    /// Appends the encoding.
    pub fn encode(&self, w: &mut Writer) {
        match self {
            Self::Empty => w.u8(0),
            Self::Inline(bytes) => w.u8(1).lp(bytes),
            Self::Tree { depth, root } => w.u8(2).u8(*depth).raw(&root.0),
        };
    }

    /// Reads one.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let at = r.offset();
        Ok(match r.u8("content")? {
            0 => Self::Empty,
            1 => Self::Inline(Bytes::copy_from_slice(r.lp("inline", INLINE_LEN_MAX)?)),
            2 => {
                let depth = r.u8("depth")?;
                if depth > DEPTH_MAX {
                    return Err(r.error_at(at, "depth", Problem::Unknown { value: depth.into() }));
                }
                Self::Tree { depth, root: BlockId(r.array("root")?) }
            }
            value => {
                return Err(r.error_at(at, "content", Problem::Unknown { value: value.into() }));
            }
        })
    }
}

/// One change. The fold in `meta::fold` says what each does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A new inode and its first name.
    Create {
        /// The new link.
        link: LinkId,
        /// The new inode.
        ino: u64,
        /// The directory.
        parent: u64,
        /// The name in it.
        name: Bytes,
        /// What it is.
        node: Node,
        /// Permission bits.
        mode: u16,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// When.
        time: Timestamp,
    },
    /// A further name.
    Link {
        /// The new link.
        link: LinkId,
        /// The inode.
        ino: u64,
        /// The directory.
        parent: u64,
        /// The name in it.
        name: Bytes,
        /// When.
        time: Timestamp,
    },
    /// A link gets another place.
    Move {
        /// The link.
        link: LinkId,
        /// The new directory.
        parent: u64,
        /// The new name.
        name: Bytes,
        /// Links that the author saw in that place, and removed.
        replaces: Vec<LinkId>,
        /// When.
        time: Timestamp,
    },
    /// A link goes away.
    Remove {
        /// The link.
        link: LinkId,
        /// When.
        time: Timestamp,
    },
    /// A file's data, as a whole.
    Write {
        /// The file.
        ino: u64,
        /// Length, bytes.
        size: u64,
        /// Bytes in use.
        used: u64,
        /// Modification time.
        mtime: Timestamp,
        /// Change time.
        ctime: Timestamp,
        /// The data.
        content: Content,
    },
    /// Attributes.
    SetAttr {
        /// The inode.
        ino: u64,
        /// Permission bits.
        mode: Option<u16>,
        /// Owner.
        uid: Option<u32>,
        /// Group.
        gid: Option<u32>,
        /// Access time.
        atime: Option<Timestamp>,
        /// Modification time.
        mtime: Option<Timestamp>,
        /// Change time.
        ctime: Timestamp,
    },
    /// One extended attribute.
    SetXattr {
        /// The inode.
        ino: u64,
        /// The attribute's name.
        name: Bytes,
        /// Its value; `None` removes it.
        value: Option<Bytes>,
        /// Change time.
        ctime: Timestamp,
    },
    /// A pack is in the store.
    PackAdd {
        /// Which.
        pack: PackId,
        /// Key epoch it is sealed under.
        epoch: u32,
        /// Length, bytes.
        size: u64,
        /// BLAKE3 of its directory as stored.
        dir_hash: Hash,
    },
}

impl Op {
    /// Appends the encoding.
    pub fn encode(&self, w: &mut Writer) {
        match self {
            Self::Create { link, ino, parent, name, node, mode, uid, gid, time } => {
                w.u8(1).raw(&link.0).u64(*ino).u64(*parent).lp(name);
                node.encode(w);
                w.u16(*mode).u32(*uid).u32(*gid).time(*time);
            }
            Self::Link { link, ino, parent, name, time } => {
                w.u8(2).raw(&link.0).u64(*ino).u64(*parent).lp(name).time(*time);
            }
            Self::Move { link, parent, name, replaces, time } => {
                w.u8(3).raw(&link.0).u64(*parent).lp(name);
                w.list(replaces, |w, link| {
                    w.raw(&link.0);
                });
                w.time(*time);
            }
            Self::Remove { link, time } => {
                w.u8(4).raw(&link.0).time(*time);
            }
            Self::Write { ino, size, used, mtime, ctime, content } => {
                w.u8(5).u64(*ino).u64(*size).u64(*used).time(*mtime).time(*ctime);
                content.encode(w);
            }
            Self::SetAttr { ino, mode, uid, gid, atime, mtime, ctime } => {
                w.u8(6).u64(*ino);
                w.opt(*mode, |w, value| {
                    w.u16(value);
                });
                w.opt(*uid, |w, value| {
                    w.u32(value);
                });
                w.opt(*gid, |w, value| {
                    w.u32(value);
                });
                w.opt(*atime, |w, value| {
                    w.time(value);
                });
                w.opt(*mtime, |w, value| {
                    w.time(value);
                });
                w.time(*ctime);
            }
            Self::SetXattr { ino, name, value, ctime } => {
                w.u8(7).u64(*ino).lp(name);
                w.opt(value.as_ref(), |w, value| {
                    w.lp(value);
                });
                w.time(*ctime);
            }
            Self::PackAdd { pack, epoch, size, dir_hash } => {
                w.u8(8).raw(&pack.0).u32(*epoch).u64(*size).raw(&dir_hash.0);
            }
        }
    }

    /// Reads one.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let at = r.offset();
        Ok(match r.u8("op")? {
            1 => Self::Create {
                link: LinkId(r.array("link")?),
                ino: ino(r)?,
                parent: ino(r)?,
                name: name(r)?,
                node: Node::decode(r)?,
                mode: mode(r)?,
                uid: r.u32("uid")?,
                gid: r.u32("gid")?,
                time: r.time("time")?,
            },
            2 => Self::Link {
                link: LinkId(r.array("link")?),
                ino: ino(r)?,
                parent: ino(r)?,
                name: name(r)?,
                time: r.time("time")?,
            },
            3 => Self::Move {
                link: LinkId(r.array("link")?),
                parent: ino(r)?,
                name: name(r)?,
                replaces: r.list("replaces", GROUP_OPS_MAX, 16, |r| {
                    Ok(LinkId(r.array("replaced link")?))
                })?,
                time: r.time("time")?,
            },
            4 => Self::Remove { link: LinkId(r.array("link")?), time: r.time("time")? },
            5 => Self::Write {
                ino: ino(r)?,
                size: file_len(r, "size")?,
                used: file_len(r, "used")?,
                mtime: r.time("mtime")?,
                ctime: r.time("ctime")?,
                content: Content::decode(r)?,
            },
            6 => Self::SetAttr {
                ino: ino(r)?,
                mode: r.opt("mode", mode)?,
                uid: r.opt("uid", |r| r.u32("uid"))?,
                gid: r.opt("gid", |r| r.u32("gid"))?,
                atime: r.opt("atime", |r| r.time("atime"))?,
                mtime: r.opt("mtime", |r| r.time("mtime"))?,
                ctime: r.time("ctime")?,
            },
            7 => Self::SetXattr {
                ino: ino(r)?,
                name: xattr_name(r)?,
                value: r
                    .opt("value", |r| Ok(Bytes::copy_from_slice(r.lp("value", XATTR_LEN_MAX)?)))?,
                ctime: r.time("ctime")?,
            },
            8 => Self::PackAdd {
                pack: PackId(r.array("pack")?),
                epoch: r.u32("epoch")?,
                size: r.u64("size")?,
                dir_hash: Hash(r.array("directory hash")?),
            },
            value => return Err(r.error_at(at, "op", Problem::Unknown { value: value.into() })),
        })
    }
}

fn ino(r: &mut Reader<'_>) -> Result<u64> {
    let at = r.offset();
    let ino = r.u64("inode number")?;
    if ino == 0 || ino >= 1 << 63 {
        return Err(r.error_at(at, "inode number", Problem::Unknown { value: ino }));
    }
    Ok(ino)
}

/// A length, bounded so that sums of a few do not overflow.
pub(crate) fn file_len(r: &mut Reader<'_>, field: &'static str) -> Result<u64> {
    let at = r.offset();
    let len = r.u64(field)?;
    if len > FILE_LEN_MAX {
        return Err(r.error_at(at, field, Problem::Unknown { value: len }));
    }
    Ok(len)
}

/// Permission bits.
pub(crate) fn mode(r: &mut Reader<'_>) -> Result<u16> {
    let at = r.offset();
    let mode = r.u16("mode")?;
    if mode > 0o7777 {
        return Err(r.error_at(at, "mode", Problem::Unknown { value: mode.into() }));
    }
    Ok(mode)
}

/// A directory entry's name; anything that could escape its directory is refused.
fn name(r: &mut Reader<'_>) -> Result<Bytes> {
    let at = r.offset();
    let bytes = r.lp("name", Name::LEN_MAX)?;
    if Name::new(bytes).is_err() {
        let rule = "a name is 1 to 255 bytes without / and NUL, and neither . nor ..";
        return Err(r.error_at(at, "name", Problem::Invalid { rule }));
    }
    Ok(Bytes::copy_from_slice(bytes))
}

/// An extended attribute's name.
pub(crate) fn xattr_name(r: &mut Reader<'_>) -> Result<Bytes> {
    let at = r.offset();
    let bytes = r.lp("attribute name", Name::LEN_MAX)?;
    if bytes.is_empty() || bytes.contains(&0) {
        let rule = "an attribute's name is 1 to 255 bytes without NUL";
        return Err(r.error_at(at, "attribute name", Problem::Invalid { rule }));
    }
    Ok(Bytes::copy_from_slice(bytes))
}

/// The ops of one call: they take effect together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// When it happened.
    pub hlc: Hlc,
    /// What happened, in order.
    pub ops: Vec<Op>,
}

impl Group {
    /// Appends the encoding.
    pub fn encode(&self, w: &mut Writer) {
        w.u64(self.hlc.0);
        w.list(&self.ops, |w, op| op.encode(w));
    }

    /// Reads one.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { hlc: Hlc(r.u64("hlc")?), ops: r.list("ops", GROUP_OPS_MAX, 14, Op::decode)? })
    }

    /// Reads a run of groups to its end.
    pub fn decode_all(bytes: &[u8]) -> std::result::Result<Vec<Self>, DecodeError> {
        let mut r = Reader::new(bytes);
        let mut groups = Vec::new();
        while r.left() > 0 {
            groups.push(Self::decode(&mut r)?);
        }
        Ok(groups)
    }
}

/// Bytes at which a row of groups is full.
const ROW_LEN: usize = 64 << 10;

/// Groups as they wait to be sent: encoded, in rows of bounded length.
#[derive(Debug, Default)]
pub struct GroupRows(Vec<Vec<u8>>);

impl GroupRows {
    /// Appends a group.
    pub fn push(&mut self, group: &Group) {
        let open = self.0.pop_if(|row| row.len() < ROW_LEN).unwrap_or_default();
        let open_len = open.len();
        let mut w = Writer::onto(open);
        group.encode(&mut w);
        let row = w.into_vec();
        // One that does not would block everything behind it for good.
        debug_assert_eq!(
            Group::decode_all(&row[open_len..]).as_deref().ok(),
            Some(std::slice::from_ref(group)),
            "what is recorded can be read"
        );
        self.0.push(row);
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rows, oldest first.
    pub fn iter(&self) -> std::slice::Iter<'_, Vec<u8>> {
        self.0.iter()
    }
}

//! What an op does to the state.
//!
//! The engine changes the state through the same primitives that a machine
//! uses when it reads the op from somebody's log, so what others see is what
//! happened here. An op that does not fit the state is refused: with a signed,
//! hash-linked log that only means a broken author.

use super::db;
use super::row::{Dent, Inode};
use super::state::{DentKey, State};
use crate::ids::LinkId;
use crate::log::op::{Node, Op};
use bytes::Bytes;
use std::sync::Arc;
use vfs::Timestamp;

/// Why an op could not be folded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The local database failed.
    #[error(transparent)]
    Db(#[from] db::Error),
    /// The op names an inode that is not there.
    #[error("an op names inode {ino}, which does not exist")]
    NoInode {
        /// The inode.
        ino: u64,
    },
    /// The op names a link that is not there.
    #[error("an op names link {link}, which does not exist")]
    NoLink {
        /// The link.
        link: LinkId,
    },
    /// The op gives a taken name without replacing what has it.
    #[error("an op gives a name in directory {parent} that is taken")]
    Taken {
        /// The directory.
        parent: u64,
    },
    /// The op would make a directory its own ancestor.
    #[error("an op moves directory {ino} below itself")]
    Cycle {
        /// The directory.
        ino: u64,
    },
    /// The op gives a directory a second name.
    #[error("an op gives directory {ino} a second name")]
    SecondName {
        /// The directory.
        ino: u64,
    },
    /// The op makes an inode that is there.
    #[error("an op creates inode {ino}, which exists")]
    Exists {
        /// The inode.
        ino: u64,
    },
}

/// Shorthand for a fold's result.
pub type Result<T> = std::result::Result<T, Error>;

/// The attributes a new inode starts with.
#[derive(Clone, Debug)]
pub struct NewInode {
    /// What it is.
    pub node: Node,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl State {
    fn must_change(&mut self, ino: u64) -> Result<&mut Inode> {
        self.change(ino)?.map(|slot| &mut slot.inode).ok_or(Error::NoInode { ino })
    }

    fn touch_dir(&mut self, dir: u64, time: Timestamp) -> Result<&mut Inode> {
        let inode = self.must_change(dir)?;
        inode.mtime = time;
        inode.ctime = time;
        Ok(inode)
    }

    /// Whether `dir` is `ancestor` or lies below it.
    pub fn is_within(&mut self, dir: u64, ancestor: u64) -> db::Result<bool> {
        let mut at = dir;
        // Deeper than any tree that could have been built in the life of a disk.
        for _ in 0..1_000_000 {
            if at == ancestor {
                return Ok(true);
            }
            match self.slot(at)? {
                Some(slot) if slot.parent != at && slot.parent != 0 => at = slot.parent,
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Makes an inode with its first name.
    pub fn create(
        &mut self,
        (link, ino): (LinkId, u64),
        (parent, name): (u64, Bytes),
        new: NewInode,
        time: Timestamp,
    ) -> Result<()> {
        if self.cached_slot(ino).is_some() || self.slot(ino)?.is_some() {
            return Err(Error::Exists { ino });
        }
        let key = self.free_place(parent, &name)?;
        let mut inode = Inode::new(new.node, new.mode, new.uid, new.gid, time);
        let is_dir = inode.is_dir();
        inode.nlink = if is_dir { 2 } else { 1 };
        let kind = kind_code(&inode.node);
        self.add_inode(ino, inode, if is_dir { parent } else { 0 });
        self.place((key, Dent { link, ino, kind, name }), is_dir, time)
    }

    /// Gives an inode a further name.
    pub fn add_link(
        &mut self,
        (link, ino): (LinkId, u64),
        (parent, name): (u64, Bytes),
        time: Timestamp,
    ) -> Result<()> {
        let key = self.free_place(parent, &name)?;
        let inode = self.must_change(ino)?;
        if inode.is_dir() {
            return Err(Error::SecondName { ino });
        }
        inode.ctime = time;
        inode.nlink += 1;
        let kind = kind_code(&inode.node);
        self.place((key, Dent { link, ino, kind, name }), false, time)
    }

    /// Where `name` goes in `parent`, which must be there and not have it.
    fn free_place(&mut self, parent: u64, name: &[u8]) -> Result<DentKey> {
        let key = self.dent_key(parent, name);
        if self.dent(&key)?.is_some() {
            return Err(Error::Taken { parent });
        }
        match self.slot(parent)? {
            Some(slot) if slot.inode.is_dir() => Ok(key),
            _ => Err(Error::NoInode { ino: parent }),
        }
    }

    fn place(&mut self, (key, dent): (DentKey, Dent), is_dir: bool, time: Timestamp) -> Result<()> {
        self.set_dent(key, Some(dent));
        let dir = self.touch_dir(key.parent, time)?;
        dir.nlink += u32::from(is_dir);
        Ok(())
    }

    /// Takes a name away; the inode goes with its last one.
    pub fn remove_link(&mut self, key: DentKey, time: Timestamp) -> Result<()> {
        let Some(dent) = self.dent(&key)? else {
            return Err(Error::NoLink { link: LinkId::default() });
        };
        let inode = self.must_change(dent.ino)?;
        inode.ctime = time;
        let is_dir = inode.is_dir();
        inode.nlink = if is_dir { 0 } else { inode.nlink.saturating_sub(1) };
        self.set_dent(key, None);
        self.drop_link(dent.link);
        let dir = self.touch_dir(key.parent, time)?;
        if is_dir {
            dir.nlink = dir.nlink.saturating_sub(1);
        }
        Ok(())
    }

    /// Gives links new places, all at once: each is taken from where it is, what
    /// is replaced is removed, then each is put where it goes.
    pub fn move_links(
        &mut self,
        moves: &[(LinkId, u64, Bytes)],
        replaced: &[LinkId],
        time: Timestamp,
    ) -> Result<()> {
        let mut lifted = Vec::with_capacity(moves.len());
        for (link, parent, name) in moves {
            let key = self.link_place(*link)?.ok_or(Error::NoLink { link: *link })?;
            let dent = self.dent(&key)?.ok_or(Error::NoLink { link: *link })?;
            lifted.push((key, dent, *parent, name.clone()));
        }
        for (key, dent, parent, _) in &lifted {
            let inode = self.must_change(dent.ino)?;
            inode.ctime = time;
            let is_dir = inode.is_dir();
            self.set_dent(*key, None);
            let dir = self.touch_dir(key.parent, time)?;
            if is_dir {
                dir.nlink = dir.nlink.saturating_sub(1);
                if let Some(slot) = self.change(dent.ino)? {
                    slot.parent = *parent;
                }
            }
        }
        for link in replaced {
            let key = self.link_place(*link)?.ok_or(Error::NoLink { link: *link })?;
            self.remove_link(key, time)?;
        }
        for (_, dent, parent, name) in lifted {
            let key = self.free_place(parent, &name)?;
            let is_dir = dent.kind == kind_code(&Node::Directory);
            if is_dir && self.is_within(parent, dent.ino)? {
                return Err(Error::Cycle { ino: dent.ino });
            }
            self.place((key, Dent { name, ..dent }), is_dir, time)?;
        }
        Ok(())
    }

    /// Sets or removes an extended attribute.
    pub fn set_xattr_value(
        &mut self,
        ino: u64,
        name: Bytes,
        value: Option<Bytes>,
        ctime: Timestamp,
    ) -> Result<()> {
        let inode = self.must_change(ino)?;
        inode.ctime = ctime;
        let xattrs = Arc::make_mut(&mut inode.xattrs);
        match value {
            Some(value) => drop(xattrs.insert(name, value)),
            None => drop(xattrs.remove(&name)),
        }
        Ok(())
    }

    /// Folds the ops of one call.
    pub fn apply(&mut self, ops: &[Op]) -> Result<()> {
        let mut rest = ops;
        while let Some((op, tail)) = rest.split_first() {
            if matches!(op, Op::Move { .. }) {
                let count = rest.iter().take_while(|op| matches!(op, Op::Move { .. })).count();
                let (moves, others) = rest.split_at(count);
                self.apply_moves(moves)?;
                rest = others;
            } else {
                self.apply_one(op)?;
                rest = tail;
            }
        }
        Ok(())
    }

    /// Moves that stand together happen at once: an exchange is two of them.
    fn apply_moves(&mut self, ops: &[Op]) -> Result<()> {
        let (mut moves, mut replaced, mut at) = (Vec::new(), Vec::new(), Timestamp::default());
        for op in ops {
            if let Op::Move { link, parent, name, replaces, time } = op {
                moves.push((*link, *parent, name.clone()));
                replaced.extend_from_slice(replaces);
                at = *time;
            }
        }
        self.move_links(&moves, &replaced, at)
    }

    fn apply_one(&mut self, op: &Op) -> Result<()> {
        match op.clone() {
            Op::Create { link, ino, parent, name, node, mode, uid, gid, time } => {
                let new = NewInode { node, mode, uid, gid };
                self.create((link, ino), (parent, name), new, time)
            }
            Op::Link { link, ino, parent, name, time } => {
                self.add_link((link, ino), (parent, name), time)
            }
            Op::Move { .. } => self.apply_moves(std::slice::from_ref(op)),
            Op::Remove { link, time } => {
                let key = self.link_place(link)?.ok_or(Error::NoLink { link })?;
                self.remove_link(key, time)
            }
            Op::Write { ino, size, used, mtime, ctime, content } => {
                let inode = self.must_change(ino)?;
                (inode.size, inode.used, inode.content) = (size, used, content);
                (inode.mtime, inode.ctime) = (mtime, ctime);
                Ok(())
            }
            Op::SetAttr { ino, mode, uid, gid, atime, mtime, ctime } => {
                if atime.is_some() {
                    self.forget_read(ino);
                }
                let inode = self.must_change(ino)?;
                inode.mode = mode.unwrap_or(inode.mode);
                inode.uid = uid.unwrap_or(inode.uid);
                inode.gid = gid.unwrap_or(inode.gid);
                inode.atime = atime.unwrap_or(inode.atime);
                inode.mtime = mtime.unwrap_or(inode.mtime);
                inode.ctime = ctime;
                Ok(())
            }
            Op::SetXattr { ino, name, value, ctime } => {
                self.set_xattr_value(ino, name, value, ctime)
            }
            // Packs are no part of the tree; the reader of the log keeps them.
            Op::PackAdd { .. } => Ok(()),
        }
    }
}

/// The code of a kind in directory entries, as in the encoding of [`Node`].
#[must_use]
pub fn kind_code(node: &Node) -> u8 {
    match node {
        Node::Regular => 1,
        Node::Directory => 2,
        Node::Symlink(_) => 3,
        Node::Fifo => 4,
        Node::Socket => 5,
        Node::CharDevice { .. } => 6,
        Node::BlockDevice { .. } => 7,
    }
}

//! Random operations that run on any [`Vfs`](crate::Vfs) and can be compared.
//!
//! The universe is small on purpose: six names, directories two deep, a handful of
//! handle slots, so that names collide, directories are renamed into each other
//! and files live on without a name. An operation names things by path, never by
//! inode number, so the same list means the same on every implementation, and any
//! sub-list of a list is a list: a failing run can be shortened by leaving
//! operations out.
//!
//! To compare two implementations: [`apply`] each operation to both, compare the
//! [`Outcome`]s, and now and then compare their [`dump`]s.

mod apply;
mod dump;

pub use apply::{Outcome, Seen, Session, apply};
pub(crate) use dump::next_cookie;
pub use dump::{Content, Node, Tree, dump};

use crate::{Allocate, OpenFlags, RenameMode, SetAttr, SetTime, Timestamp, XattrMode};

/// The names there are: plain, not UTF-8, and as long as a name may be.
pub const NAMES: [&[u8]; 6] = [b"a", b"b", b"c", b"d", b"\xff\xfe", &[b'x'; 255]];
/// The names of extended attributes there are; the last is in no namespace.
pub const XATTR_NAMES: [&[u8]; 5] = [b"user.a", b"user.b", b"trusted.a", b"security.a", b"other.a"];
/// How many handle slots there are.
pub const SLOTS: usize = 4;
/// How many different callers there are; the first is root.
pub const CALLERS: u8 = 3;

/// A name in a directory, from the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The directories on the way, as indices of [`NAMES`]; at most two.
    pub dirs: Vec<u8>,
    /// The name, as an index of [`NAMES`].
    pub name: u8,
}

/// A file by name, or by the handle in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Whatever the path names now.
    Path(Path),
    /// What the slot was opened on.
    Slot(u8),
}

/// What to make that is not a regular file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A directory.
    Directory,
    /// A symbolic link with a target of this many bytes.
    Symlink(u16),
    /// A named pipe.
    Fifo,
    /// A character device.
    Device,
}

/// What a create does when the name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Uses what is there.
    Reuse,
    /// Fails.
    Fail,
    /// Succeeds if the verifier is this.
    SameVerifier(u8),
}

/// One operation.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are the arguments of the operation in the trait")]
pub enum Op {
    /// Goes on as another caller.
    Become(u8),
    Lookup(Path),
    Parent(Path),
    Create {
        path: Path,
        mode: u16,
        size: Option<u64>,
        taken: Taken,
        slot: Option<(u8, OpenFlags)>,
    },
    Make {
        path: Path,
        what: What,
        mode: u16,
    },
    Link {
        from: Path,
        to: Path,
    },
    Unlink(Path),
    Rmdir(Path),
    Rename {
        from: Path,
        to: Path,
        mode: RenameMode,
    },
    Readlink(Path),
    Readdir {
        dirs: Vec<u8>,
        entries: u32,
    },
    Open {
        path: Path,
        flags: OpenFlags,
        slot: u8,
    },
    Close(u8),
    Getattr(Target),
    Setattr {
        target: Target,
        set: SetAttr,
    },
    Access {
        path: Path,
        want: u8,
    },
    Read {
        target: Target,
        offset: u64,
        len: u32,
    },
    Write {
        target: Target,
        offset: Option<u64>,
        len: u32,
        fill: u8,
    },
    Allocate {
        target: Target,
        offset: u64,
        len: u64,
        what: Allocate,
    },
    Copy {
        from: (Target, u64),
        to: (Target, u64),
        len: u64,
    },
    Sync(Target),
    SyncVolume,
    Xattr {
        path: Path,
        name: u8,
    },
    SetXattr {
        path: Path,
        name: u8,
        value: Option<(u32, u8)>,
        mode: XattrMode,
    },
    Xattrs(Path),
}

/// A small, repeatable source of numbers (xorshift64*).
pub fn numbers(seed: u64) -> impl FnMut() -> u32 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as u32
    }
}

/// Indices of [`NAMES`] that mostly name files.
const FILES: [u8; 2] = [0, 1];
/// Indices of [`NAMES`] that mostly name directories.
const DIRECTORIES: [u8; 2] = [2, 3];

/// Picks arguments from a source of numbers.
struct Draw<'a, F>(&'a mut F);

impl<F: FnMut() -> u32> Draw<'_, F> {
    fn below(&mut self, limit: u32) -> u32 {
        (self.0)() % limit.max(1)
    }

    fn one_in(&mut self, chance: u32) -> bool {
        self.below(chance) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u32) as usize]
    }

    /// Two names are mostly files', two mostly directories', so that most paths
    /// lead somewhere; now and then any name is anything's.
    fn name(&mut self, usual: [u8; 2]) -> u8 {
        if self.one_in(6) { self.below(NAMES.len() as u32) as u8 } else { self.of(&usual) }
    }

    fn dirs(&mut self) -> Vec<u8> {
        let depth = self.of(&[0, 0, 0, 1, 1, 2]);
        (0..depth).map(|_| self.name(DIRECTORIES)).collect()
    }

    fn file_path(&mut self) -> Path {
        Path { dirs: self.dirs(), name: self.name(FILES) }
    }

    fn dir_path(&mut self) -> Path {
        Path { dirs: self.dirs(), name: self.name(DIRECTORIES) }
    }

    fn path(&mut self) -> Path {
        if self.one_in(3) { self.dir_path() } else { self.file_path() }
    }

    fn slot(&mut self) -> u8 {
        self.below(SLOTS as u32) as u8
    }

    fn target(&mut self) -> Target {
        match self.below(5) {
            0 | 1 => Target::Slot(self.slot()),
            2 => Target::Path(self.path()),
            _ => Target::Path(self.file_path()),
        }
    }

    fn flags(&mut self) -> OpenFlags {
        let write = !self.one_in(5);
        OpenFlags { read: !self.one_in(8), write, truncate: write && self.one_in(5) }
    }

    fn mode(&mut self) -> u16 {
        self.of(&[0o644, 0o644, 0o755, 0o777, 0o600, 0o000, 0o2775, 0o1777, 0o4755, 0o6711])
    }

    /// Offsets and lengths on, before and behind the borders of blocks.
    fn offset(&mut self) -> u64 {
        if self.one_in(40) {
            return (1 << 40) + u64::from(self.below(10_000));
        }
        let border = self.of(&[0, 0, 512, 4096, 8192, 65_536, 131_072, 262_144]);
        match self.below(3) {
            0 => border,
            1 => border + u64::from(self.below(5000)),
            _ => u64::saturating_sub(border, u64::from(self.below(100))),
        }
    }

    fn len(&mut self) -> u32 {
        match self.below(8) {
            0 => 0,
            1 => 4096,
            2 => 131_072,
            3 => 60_000 + self.below(100_000),
            _ => 1 + self.below(9000),
        }
    }

    fn time(&mut self) -> SetTime {
        if self.one_in(3) {
            return SetTime::Now;
        }
        let seconds = i64::from(self.below(1 << 31)) - (1 << 29);
        SetTime::To(Timestamp { seconds, nanoseconds: self.below(1_000_000_000) })
    }

    fn setattr(&mut self) -> SetAttr {
        let mut set = SetAttr::default();
        for _ in 0..1 + self.below(2) {
            match self.below(6) {
                0 => set.mode = Some(self.mode()),
                1 => set.uid = Some(self.of(&[0, 1000, 1001])),
                2 => set.gid = Some(self.of(&[0, 1000, 1001, 2000])),
                3 => set.atime = Some(self.time()),
                4 => set.mtime = Some(self.time()),
                _ => set.size = Some(self.offset()),
            }
        }
        set
    }

    /// A length, now and then one that no file may have.
    fn first_size(&mut self) -> u64 {
        if self.one_in(8) { (1 << 62) + 1 } else { self.offset() }
    }

    fn taken(&mut self) -> Taken {
        match self.below(4) {
            0 => Taken::Fail,
            1 => Taken::SameVerifier(self.below(2) as u8),
            _ => Taken::Reuse,
        }
    }

    fn what(&mut self) -> What {
        match self.below(8) {
            0 => What::Fifo,
            1 => What::Device,
            2 => What::Symlink(self.of(&[0, 4095, 4096])),
            _ => What::Symlink(1 + self.below(100) as u16),
        }
    }

    fn allocate(&mut self) -> Allocate {
        let keep_size = self.one_in(2);
        match self.below(3) {
            0 => Allocate::Reserve { keep_size },
            1 => Allocate::PunchHole,
            _ => Allocate::Zero { keep_size },
        }
    }

    fn rename(&mut self) -> Op {
        let (from, to) = match self.below(8) {
            0 => (self.path(), self.path()),
            1..4 => (self.dir_path(), self.dir_path()),
            _ => (self.file_path(), self.file_path()),
        };
        use RenameMode::{Exchange, NoReplace, Replace};
        Op::Rename { from, to, mode: self.of(&[Replace, Replace, NoReplace, Exchange]) }
    }

    fn xattr_name(&mut self) -> u8 {
        self.of(&[0, 0, 0, 0, 1, 1, 2, 3, 4])
    }

    fn xattr_mode(&mut self) -> XattrMode {
        use XattrMode::{Create, Either, Replace};
        self.of(&[Either, Either, Either, Create, Replace])
    }

    fn xattr_value(&mut self) -> Option<(u32, u8)> {
        if self.one_in(4) {
            return None;
        }
        let len = self.of(&[0, 1, 10, 100, 100, 4000, 40_000, 65_536, 65_537]);
        Some((len, self.below(256) as u8))
    }
}

impl Op {
    /// An operation made from what `next` answers.
    pub fn random(next: &mut impl FnMut() -> u32) -> Self {
        let mut draw = Draw(next);
        let draw = &mut draw;
        match draw.below(100) {
            0..14 => {
                let slot = (!draw.one_in(3)).then(|| (draw.slot(), draw.flags()));
                let path = draw.file_path();
                let size = draw.one_in(4).then(|| draw.first_size());
                Self::Create { path, mode: draw.mode(), size, taken: draw.taken(), slot }
            }
            14..22 => {
                let (path, mode) = (draw.dir_path(), draw.mode());
                Self::Make { path, what: What::Directory, mode }
            }
            22..24 => Self::Make { path: draw.file_path(), what: draw.what(), mode: draw.mode() },
            24..29 => Self::Link { from: draw.file_path(), to: draw.file_path() },
            29..33 => Self::Unlink(draw.file_path()),
            33..36 => Self::Rmdir(draw.dir_path()),
            36..48 => draw.rename(),
            48..54 => Self::Open { path: draw.file_path(), flags: draw.flags(), slot: draw.slot() },
            54..56 => Self::Close(draw.slot()),
            56..67 => {
                let offset = (!draw.one_in(4)).then(|| draw.offset());
                let (len, fill) = (draw.len(), draw.below(256) as u8);
                Self::Write { target: draw.target(), offset, len, fill }
            }
            67..72 => Self::Read { target: draw.target(), offset: draw.offset(), len: draw.len() },
            72..75 => Self::Allocate {
                target: draw.target(),
                offset: draw.offset(),
                len: u64::from(draw.len()),
                what: draw.allocate(),
            },
            75..78 => Self::Copy {
                from: (draw.target(), draw.offset()),
                to: (draw.target(), draw.offset()),
                len: u64::from(draw.len()),
            },
            78..84 => Self::Setattr { target: draw.target(), set: draw.setattr() },
            84..88 => Self::SetXattr {
                path: draw.path(),
                name: draw.xattr_name(),
                value: draw.xattr_value(),
                mode: draw.xattr_mode(),
            },
            other => Self::random_look(other, draw),
        }
    }

    /// The operations that change nothing but access times and the session.
    fn random_look<F: FnMut() -> u32>(choice: u32, draw: &mut Draw<'_, F>) -> Self {
        match choice {
            88 => Self::Xattr { path: draw.path(), name: draw.xattr_name() },
            89 => Self::Xattrs(draw.path()),
            90 => Self::Sync(draw.target()),
            91 => Self::SyncVolume,
            92 | 93 => Self::Readdir { dirs: draw.dirs(), entries: draw.of(&[1, 2, 100]) },
            94 => Self::Getattr(draw.target()),
            95 => Self::Access { path: draw.path(), want: draw.below(8) as u8 },
            96 => Self::Readlink(draw.path()),
            97 => Self::Parent(draw.dir_path()),
            98 => Self::Lookup(draw.path()),
            // Root more often, or most of what others do fails.
            _ => Self::Become(draw.of(&[0, 0, 0, 0, 1, 2])),
        }
    }
}

#[cfg(test)]
mod tests;

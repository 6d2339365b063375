//! Requests as they are read.
//!
//! A request comes as [`Bytes`], and its names and data are slices of it. Nothing is
//! allocated by a length that was read before that many bytes are there.

use super::{HEADER_LEN, MSIZE_MAX, WALK_MAX, kind, open};
use bytes::{Buf, Bytes};
use vfs::ErrorKind;

/// A message whose fields are not looked at yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// What it is.
    pub(crate) kind: u8,
    /// By which the answer is recognised.
    pub(crate) tag: u16,
    /// The rest.
    pub(crate) fields: Bytes,
}

impl Message {
    /// Length, kind and tag of the message that begins here, if they are all there.
    pub(crate) fn header(bytes: &[u8]) -> Option<(u32, u8, u16)> {
        let header = bytes.first_chunk::<HEADER_LEN>()?;
        let [a, b, c, d, kind, e, f] = *header;
        Some((u32::from_le_bytes([a, b, c, d]), kind, u16::from_le_bytes([e, f])))
    }

    /// Bytes that it brings or asks for.
    pub(crate) fn weight(&self) -> usize {
        // Both begin alike: fid, place, length.
        let asked = match self.kind {
            kind::READ | kind::READDIR => self.fields.get(12..).and_then(<[u8]>::first_chunk),
            _ => None,
        };
        let asked = asked.map_or(0, |count| u32::from_le_bytes(*count).min(MSIZE_MAX));
        self.fields.len() + asked as usize
    }

    /// Whether it may be given up on the way and not be answered: nothing but a fid comes
    /// of it, and that only with the answer. The client may ask anything else again, and
    /// would have it done twice. Locks change something, and nobody waits for them here.
    pub(crate) fn may_be_given_up(&self) -> bool {
        match self.kind {
            kind::ATTACH
            | kind::WALK
            | kind::READ
            | kind::READDIR
            | kind::READLINK
            | kind::GETATTR
            | kind::STATFS
            | kind::XATTRWALK
            | kind::GETLOCK
            | kind::FSYNC => true,
            // fid, flags
            kind::LOPEN => {
                let flags = self.fields.get(4..).and_then(<[u8]>::first_chunk);
                flags.is_some_and(|flags| u32::from_le_bytes(*flags) & open::TRUNCATE == 0)
            }
            _ => false,
        }
    }

    /// Takes a whole message apart.
    pub(crate) fn of(mut bytes: Bytes) -> Option<Self> {
        let (len, kind, tag) = Self::header(&bytes)?;
        if len as usize != bytes.len() {
            return None;
        }
        bytes.advance(HEADER_LEN);
        Some(Self { kind, tag, fields: bytes })
    }
}

/// A lock as a client describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClaimedLock {
    pub(crate) fid: u32,
    /// Read, write or none.
    pub(crate) kind: u8,
    pub(crate) start: u64,
    /// Zero means to the end.
    pub(crate) len: u64,
    /// The owner: a process of a machine.
    pub(crate) process: u32,
    pub(crate) machine: Bytes,
}

/// A change of attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SetAttrRequest {
    pub(crate) fid: u32,
    /// Which of the fields are meant.
    pub(crate) valid: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    /// Seconds and nanoseconds.
    pub(crate) atime: (u64, u64),
    pub(crate) mtime: (u64, u64),
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[rustfmt::skip]
pub(crate) enum Request {
    Version { msize: u32, version: Bytes },
    Auth,
    Attach { fid: u32, auth_fid: u32, user: Bytes, tree: Bytes, uid: u32 },
    Flush { tag: u16 },
    Walk { fid: u32, new_fid: u32, names: Vec<Bytes> },
    Open { fid: u32, flags: u32 },
    Create { fid: u32, name: Bytes, flags: u32, mode: u32, gid: u32 },
    Read { fid: u32, offset: u64, count: u32 },
    Write { fid: u32, offset: u64, data: Bytes },
    Clunk { fid: u32 },
    Remove { fid: u32 },
    GetAttr { fid: u32 },
    SetAttr(SetAttrRequest),
    ReadDir { fid: u32, offset: u64, count: u32 },
    XattrWalk { fid: u32, new_fid: u32, name: Bytes },
    XattrCreate { fid: u32, name: Bytes, size: u64, flags: u32 },
    Symlink { dir: u32, name: Bytes, target: Bytes, gid: u32 },
    MakeNode { dir: u32, name: Bytes, mode: u32, major: u32, minor: u32, gid: u32 },
    MakeDir { dir: u32, name: Bytes, mode: u32, gid: u32 },
    Link { dir: u32, fid: u32, name: Bytes },
    Rename { fid: u32, dir: u32, name: Bytes },
    RenameAt { from: (u32, Bytes), to: (u32, Bytes) },
    UnlinkAt { dir: u32, name: Bytes, flags: u32 },
    ReadLink { fid: u32 },
    Sync { fid: u32, data_only: bool },
    StatFs { fid: u32 },
    Lock(ClaimedLock),
    GetLock(ClaimedLock),
}

/// What is left to be read of a message.
struct Fields(Bytes);

fn malformed() -> vfs::Error {
    vfs::Error::because(ErrorKind::Invalid, "the message is not understood")
}

impl Fields {
    fn take<const N: usize>(&mut self) -> vfs::Result<[u8; N]> {
        let head = *self.0.first_chunk::<N>().ok_or_else(malformed)?;
        self.0.advance(N);
        Ok(head)
    }

    fn u8(&mut self) -> vfs::Result<u8> {
        self.take().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> vfs::Result<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> vfs::Result<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> vfs::Result<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn bytes(&mut self, len: usize) -> vfs::Result<Bytes> {
        if len > self.0.len() {
            return Err(malformed());
        }
        Ok(self.0.split_to(len))
    }

    fn string(&mut self) -> vfs::Result<Bytes> {
        let len = self.u16()?;
        self.bytes(len.into())
    }

    fn names(&mut self) -> vfs::Result<Vec<Bytes>> {
        let count = usize::from(self.u16()?);
        if count > WALK_MAX {
            return Err(malformed());
        }
        (0..count).map(|_| self.string()).collect()
    }

    fn lock(&mut self, has_flags: bool) -> vfs::Result<ClaimedLock> {
        let (fid, kind) = (self.u32()?, self.u8()?);
        if has_flags {
            // Whether to wait: clients ask again, and waiting here would only hold a
            // thread of theirs.
            let _flags = self.u32()?;
        }
        let (start, len, process) = (self.u64()?, self.u64()?, self.u32()?);
        Ok(ClaimedLock { fid, kind, start, len, process, machine: self.string()? })
    }
}

impl Request {
    /// Understands a message: nothing may be missing and nothing left over.
    #[rustfmt::skip]
    pub(crate) fn of(message: Message) -> vfs::Result<Self> {
        let mut f = Fields(message.fields);
        let request = match message.kind {
            kind::VERSION => Self::Version { msize: f.u32()?, version: f.string()? },
            kind::AUTH => {
                let _fields = (f.u32()?, f.string()?, f.string()?, f.u32()?);
                Self::Auth
            }
            kind::ATTACH => Self::Attach {
                fid: f.u32()?, auth_fid: f.u32()?, user: f.string()?, tree: f.string()?,
                uid: f.u32()?,
            },
            kind::FLUSH => Self::Flush { tag: f.u16()? },
            kind::WALK => Self::Walk { fid: f.u32()?, new_fid: f.u32()?, names: f.names()? },
            kind::LOPEN => Self::Open { fid: f.u32()?, flags: f.u32()? },
            kind::READ => Self::Read { fid: f.u32()?, offset: f.u64()?, count: f.u32()? },
            kind::WRITE => {
                let (fid, offset, count) = (f.u32()?, f.u64()?, f.u32()?);
                Self::Write { fid, offset, data: f.bytes(count as usize)? }
            }
            kind::CLUNK => Self::Clunk { fid: f.u32()? },
            kind::REMOVE => Self::Remove { fid: f.u32()? },
            kind::GETATTR => {
                let fid = f.u32()?;
                let _wanted = f.u64()?;
                Self::GetAttr { fid }
            }
            kind::READDIR => Self::ReadDir { fid: f.u32()?, offset: f.u64()?, count: f.u32()? },
            kind::READLINK => Self::ReadLink { fid: f.u32()? },
            kind::FSYNC => {
                let fid = f.u32()?;
                // The first clients of 9P2000.L did not say.
                Self::Sync { fid, data_only: !f.0.is_empty() && f.u32()? != 0 }
            }
            kind::STATFS => Self::StatFs { fid: f.u32()? },
            kind::LOCK => Self::Lock(f.lock(true)?),
            kind::GETLOCK => Self::GetLock(f.lock(false)?),
            other => Self::change(other, &mut f)?,
        };
        if f.0.is_empty() { Ok(request) } else { Err(malformed()) }
    }

    /// The requests that change names or attributes.
    #[rustfmt::skip]
    fn change(message: u8, f: &mut Fields) -> vfs::Result<Self> {
        Ok(match message {
            kind::LCREATE => Self::Create {
                fid: f.u32()?, name: f.string()?, flags: f.u32()?, mode: f.u32()?, gid: f.u32()?,
            },
            kind::SETATTR => Self::SetAttr(SetAttrRequest {
                fid: f.u32()?, valid: f.u32()?, mode: f.u32()?, uid: f.u32()?, gid: f.u32()?,
                size: f.u64()?, atime: (f.u64()?, f.u64()?), mtime: (f.u64()?, f.u64()?),
            }),
            kind::XATTRWALK => Self::XattrWalk {
                fid: f.u32()?, new_fid: f.u32()?, name: f.string()?,
            },
            kind::XATTRCREATE => Self::XattrCreate {
                fid: f.u32()?, name: f.string()?, size: f.u64()?, flags: f.u32()?,
            },
            kind::SYMLINK => Self::Symlink {
                dir: f.u32()?, name: f.string()?, target: f.string()?, gid: f.u32()?,
            },
            kind::MKNOD => Self::MakeNode {
                dir: f.u32()?, name: f.string()?, mode: f.u32()?, major: f.u32()?,
                minor: f.u32()?, gid: f.u32()?,
            },
            kind::MKDIR => Self::MakeDir {
                dir: f.u32()?, name: f.string()?, mode: f.u32()?, gid: f.u32()?,
            },
            kind::LINK => Self::Link { dir: f.u32()?, fid: f.u32()?, name: f.string()? },
            kind::RENAME => Self::Rename { fid: f.u32()?, dir: f.u32()?, name: f.string()? },
            kind::RENAMEAT => Self::RenameAt {
                from: (f.u32()?, f.string()?), to: (f.u32()?, f.string()?),
            },
            kind::UNLINKAT => Self::UnlinkAt { dir: f.u32()?, name: f.string()?, flags: f.u32()? },
            // Linux falls back on another message then.
            _ => return Err(ErrorKind::NotSupported.into()),
        })
    }
}

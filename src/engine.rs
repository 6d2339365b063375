//! The file system: the `Vfs` trait over state, blocks and log.
//!
//! One lock, [`Inner::state`], protects everything in memory. It is held for
//! short work only, never while a block is sealed, a file is synced or the store
//! is asked. What a call changes is visible to everybody when the lock is let
//! go; a commit makes it durable here, an upload durable in the store.

pub mod anchors;
mod attributes;
mod background;
mod checkpoint;
mod commit;
mod content;
mod copy;
mod error;
mod follow;
mod fsck;
mod handle;
mod heads;
pub mod identity;
mod membership;
mod names;
mod open;
mod others;
mod patience;
mod publish;
mod read;
mod serve;
mod settings;
mod space;
mod status;
mod write;

pub use crate::data::blocks::Compression;
pub use error::{Error, Result};
pub use fsck::FsckReport;
pub use handle::Handle;
pub use identity::{load_pin, save_pin};
pub use membership::{Creation, VaultInfo, create_vault, newest_header, unlock};
pub use serve::NoChanges;
pub use settings::{AtimePolicy, Settings};
pub use status::{CacheStats, Progress, Silent, Status};

use crate::crypto::Key32;
use crate::data::blocks::Blocks;
use crate::data::file::FileState;
use crate::env::Env;
use crate::ids::{Incarnation, LinkId};
use crate::meta::db::{self, Db};
use crate::meta::state::{Slot, State};
use crate::store::BlobStore;
use bytes::Bytes;
use commit::Committer;
use parking_lot::Mutex;
use patience::Patience;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Weak};
use vfs::LockTable;
use vfs::{Attr, ErrorKind, Ino, Kind, Timestamp, WriteVerifier};

/// Longest file, bytes: offsets stay within a signed 64-bit number with room.
pub const FILE_SIZE_MAX: u64 = crate::log::op::FILE_LEN_MAX;
/// Most names of one inode, as on ext4.
pub const LINK_MAX: u32 = 65_000;
/// What a directory reports as its size, bytes.
const DIR_SIZE: u64 = 4096;

/// A mounted namespace; clones share it.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
    patience: Patience,
}

/// What all parts of an engine share.
pub(crate) struct Inner {
    settings: Settings,
    env: Env,
    block_size: u64,
    blocks: Blocks,
    db: Db,
    store: Arc<dyn BlobStore>,
    /// For work that outlives a call.
    itself: Weak<Inner>,
    state: Mutex<State>,
    numbers: Mutex<Numbers>,
    locks: LockTable,
    committer: tokio::sync::Mutex<Committer>,
    publisher: tokio::sync::Mutex<publish::Publisher>,
    /// Changes up to here are on disk.
    committed: AtomicU64,
    /// Whether something is committed here that the store has not confirmed.
    has_unsent: AtomicBool,
    verifier: WriteVerifier,
    /// Makes the handles of NFS clients.
    nfs_handle_key: Key32,
    /// Set when a sync failed: what is in memory may differ from what is on
    /// disk, so nothing is written until the next start.
    is_broken: AtomicBool,
    /// Why the last upload failed.
    last_error: Mutex<Option<String>>,
    background: background::Background,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("blocks", &self.blocks).finish_non_exhaustive()
    }
}

/// Hands out inode numbers and link ids, none of them ever twice: numbers are
/// reserved in the database before they are used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    /// The machine's part of every inode number.
    pub(crate) slot: u16,
    /// This life of the machine, part of every link id.
    pub(crate) incarnation: Incarnation,
    /// The next to hand out.
    pub(crate) next: u64,
    /// The first that is not reserved yet.
    pub(crate) reserved: u64,
}

impl Numbers {
    /// Numbers reserved at a time.
    pub(crate) const RESERVE: u64 = 1 << 20;
    /// A life that follows another begins at a multiple of this beyond all numbers
    /// in use, which is more than one life hands out.
    pub(crate) const LIFE: u64 = 1 << 36;

    fn take(&mut self) -> std::result::Result<u64, ErrorKind> {
        if self.next >= self.reserved {
            // A commit reserves more long before; only a disk that takes no
            // commits any more leads here.
            return Err(ErrorKind::NoSpace);
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    fn link(&self, number: u64) -> LinkId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.incarnation.0);
        id[8..].copy_from_slice(&number.to_be_bytes());
        LinkId(id)
    }

    fn ino(&self, number: u64) -> u64 {
        (u64::from(self.slot) << 47) + number
    }
}

impl Engine {
    /// Tells this file system from all others, for ever.
    #[must_use]
    pub fn fs_id(&self) -> [u8; 16] {
        self.inner.blocks.keyring().namespace.0
    }

    /// The key of the handles that this machine gives to NFS clients: the same in every
    /// run, another one for each machine and each file system.
    #[must_use]
    pub fn nfs_handle_key(&self) -> &Key32 {
        &self.inner.nfs_handle_key
    }
}

impl Inner {
    /// A number for a new link.
    fn new_link(&self) -> std::result::Result<LinkId, ErrorKind> {
        let mut numbers = self.numbers.lock();
        let number = numbers.take()?;
        Ok(numbers.link(number))
    }

    /// Numbers for a new inode and its first link.
    fn new_inode(&self) -> std::result::Result<(LinkId, u64), ErrorKind> {
        let mut numbers = self.numbers.lock();
        let number = numbers.take()?;
        Ok((numbers.link(number), numbers.ino(number)))
    }

    /// Refuses to change anything on a read-only or broken engine.
    fn check_writable(&self) -> vfs::Result<()> {
        if self.settings.read_only {
            return Err(ErrorKind::ReadOnly.into());
        }
        if self.is_broken.load(std::sync::atomic::Ordering::Acquire) {
            let why = "an earlier sync to the local disk failed; restart to go on";
            return Err(vfs::Error::because(ErrorKind::Io, why));
        }
        Ok(())
    }

    /// The attributes of an inode that is in memory.
    fn attr(&self, ino: u64, slot: &Slot) -> Attr {
        let inode = &slot.inode;
        let kind = inode.node.kind();
        let (size, used) = match kind {
            Kind::Directory => (DIR_SIZE, DIR_SIZE),
            Kind::Regular => (inode.size, self.used(slot)),
            _ => (inode.size, 0),
        };
        Attr {
            ino: ino_of(ino),
            kind,
            mode: inode.mode,
            nlink: inode.nlink,
            uid: inode.uid,
            gid: inode.gid,
            size,
            used,
            atime: inode.atime,
            mtime: inode.mtime,
            ctime: inode.ctime,
            btime: inode.btime,
            change: change_of(inode.ctime),
        }
    }

    /// The unsaved data of a file in memory, with its patches loaded.
    fn file_of<'s>(&self, state: &'s mut State, ino: u64) -> db::Result<Option<&'s mut FileState>> {
        let Some(slot) = state.slot(ino)? else { return Ok(None) };
        if slot.file.is_none() {
            let has_patches = slot.has_patches;
            let rows = if has_patches { state.db().patches(ino)? } else { Vec::new() };
            let file = content::load_patches(rows, self.block_size)?;
            if let Some(slot) = state.cached_slot(ino) {
                slot.file = Some(Box::new(file));
            }
        }
        Ok(state.cached_slot(ino).and_then(|slot| slot.file.as_deref_mut()))
    }

    /// Bytes a file takes, what is not saved yet included.
    fn used(&self, slot: &Slot) -> u64 {
        let unsaved = slot.file.as_ref().map_or(0, |file| {
            file.layers()
                .map(|layer| {
                    let staged = layer.staged.values().flatten().count() as u64;
                    layer.extents.len() + staged * self.block_size
                })
                .sum()
        });
        let size = slot.inode.size;
        (slot.inode.used.min(size) + unsaved).min(size.next_multiple_of(512))
    }
}

/// Inode numbers are never zero; a forged row that says so is told as inode 1.
fn ino_of(ino: u64) -> Ino {
    Ino::new(ino).unwrap_or(Ino::ROOT)
}

/// The change counter is the change time, which rises with every change.
fn change_of(ctime: Timestamp) -> u64 {
    let seconds = u64::try_from(ctime.seconds).unwrap_or(0);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(ctime.nanoseconds.into())
}

/// A name that lives as long as its entry.
fn owned(name: vfs::Name<'_>) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

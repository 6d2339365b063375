//! Listing directories.

use super::{Session, context};
use crate::fids::{Fid, Role};
use crate::wire::{DIR_ENTRY_LEN, Qid, Reply, entry_type, kind};
use vfs::{At, Budget, Cookie, Cred, ErrorKind, Ino, Kind, Result, Vfs};

/// The cookies of the two entries that are added here.
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;
/// Most entries asked of the file system at a time.
const PAGE_MAX: u32 = 1024;
/// Bytes of an entry with a name of usual length.
const ENTRY_LEN_USUAL: u32 = 40;

/// A listing that is being filled.
struct Listing {
    reply: Reply,
    /// Where the count of bytes goes, and from where on they are counted.
    start: usize,
    /// Bytes at most.
    max: usize,
}

impl Listing {
    fn len(&self) -> usize {
        self.reply.len() - self.start
    }

    fn room(&self) -> usize {
        self.max - self.len()
    }

    /// Adds an entry; gives the listing back, and whether there was room.
    fn add(self, ino: Ino, kind: Kind, cookie: u64, name: &[u8]) -> (Self, bool) {
        if self.room() < DIR_ENTRY_LEN + name.len() {
            return (self, false);
        }
        let reply = self.reply.entry(Qid::new(ino, kind), cookie, entry_type(kind), name);
        (Self { reply, ..self }, true)
    }

    fn finish(self) -> Reply {
        let len = self.len() as u32;
        self.reply.patch_u32(self.start - 4, len)
    }
}

impl<V: Vfs> Session<V> {
    pub(super) async fn readdir(&self, number: u32, offset: u64, count: u32) -> Result<Reply> {
        let fid = self.fid(number)?;
        let Role::Open(opened) = &fid.role else { return Err(ErrorKind::BadHandle.into()) };
        if fid.kind != Kind::Directory {
            return Err(ErrorKind::NotDirectory.into());
        }
        let max = count.min(self.data_max());
        let reply = Reply::to(kind::READDIR, 4 + max.min(8192) as usize).u32(0);
        let mut list = Listing { start: reply.len(), max: max as usize, reply };
        let mut has_room = true;
        if offset < DOT_DOT {
            (list, has_room) = self.list_dots(&fid, offset, list).await;
        }
        let cx = context(fid.cred());
        let mut after = Cookie(if offset < Cookie::FIRST_ENTRY { 0 } else { offset });
        let mut end = false;
        while has_room && !end {
            let name_bytes = list.room() as u32;
            let entries = (name_bytes / ENTRY_LEN_USUAL).clamp(1, PAGE_MAX);
            let budget = Budget { entries, name_bytes, with_attr: false };
            let page = self.fs.readdir(cx, At::Open(&opened.handle), after, budget).await?;
            end = page.end || page.entries.is_empty();
            for entry in page.entries {
                (list, has_room) = list.add(entry.ino, entry.kind, entry.cookie.0, &entry.name);
                if !has_room {
                    break;
                }
                after = entry.cookie;
            }
        }
        // Nothing at all would mean that the directory ends here.
        if !has_room && list.len() == 0 {
            return Err(ErrorKind::Invalid.into());
        }
        Ok(list.finish())
    }

    async fn list_dots(
        &self,
        fid: &Fid<V::Handle>,
        offset: u64,
        mut list: Listing,
    ) -> (Listing, bool) {
        if offset < DOT {
            let (with_dot, had_room) = list.add(fid.ino, Kind::Directory, DOT, b".");
            if !had_room {
                return (with_dot, false);
            }
            list = with_dot;
        }
        // A directory that was removed while open has no parent any more, and one that
        // may not be searched does not tell.
        let above = match fid.ino == fid.attach.root {
            true => fid.ino,
            false => match self.fs.parent(context(fid.cred()), fid.ino).await {
                Ok(entry) => entry.attr.ino,
                Err(_) => fid.ino,
            },
        };
        list.add(above, Kind::Directory, DOT_DOT, b"..")
    }

    /// A name that `ino` has in `dir`.
    pub(super) async fn find_in(&self, cred: &Cred, dir: Ino, ino: Ino) -> Result<Box<[u8]>> {
        let name_bytes = PAGE_MAX * vfs::Name::LEN_MAX as u32;
        let budget = Budget { entries: PAGE_MAX, name_bytes, with_attr: false };
        let mut after = Cookie::default();
        loop {
            let page = self.fs.readdir(context(cred), At::Ino(dir), after, budget).await?;
            if let Some(entry) = page.entries.iter().find(|entry| entry.ino == ino) {
                return Ok((*entry.name).into());
            }
            match page.entries.last() {
                Some(last) if !page.end => after = last.cookie,
                _ => return Err(ErrorKind::Stale.into()),
            }
        }
    }
}

//! Listing directories.
//!
//! How many entries fit a reply depends on their names, so they are fetched in growing
//! pages and handed over until the reply is full. `.` and `..` are added here.

use super::{Caller, Core, Known};
use crate::convert::file_type;
use vfs::{At, Budget, Cookie, DirEntry, ErrorKind, Ino, Result, Vfs};

/// The cookies of the two entries that are added here.
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;
/// Entries in the first page: about what a reply of the smallest size holds.
const PAGE_PLAIN: u32 = 128;
const PAGE_WITH_ATTR: u32 = 32;
/// Pages grow up to this.
const PAGE_MAX: u32 = 1024;

/// Takes entries until it is full.
pub(crate) trait Sink: Send {
    /// Whether entries come with attributes.
    const WITH_ATTR: bool;

    /// Takes an entry; answers whether it had no room.
    fn is_full(&mut self, entry: &Listing<'_>) -> bool;
}

/// An entry on its way to the kernel.
#[derive(Debug)]
pub(crate) struct Listing<'a> {
    /// What it names.
    pub(crate) ino: u64,
    /// Where to resume after it.
    pub(crate) cookie: u64,
    /// What kind of thing that is: the type bits of a mode.
    pub(crate) kind: u32,
    /// Its name.
    pub(crate) name: &'a [u8],
    /// Its attributes, for a sink that wants them.
    pub(crate) known: Option<Known>,
}

impl<V: Vfs> Core<V> {
    /// Fills `sink` with the entries after `after`.
    pub(crate) async fn list<S: Sink>(
        &self,
        who: &Caller,
        ino: u64,
        handle: u64,
        after: u64,
        sink: &mut S,
    ) -> Result<()> {
        let dir = self.dirs.get(handle)?;
        if after < DOT_DOT && self.list_dots(who, Ino::new(ino)?, &dir, after, sink).await? {
            return Ok(());
        }
        let mut after = Cookie(if after < Cookie::FIRST_ENTRY { 0 } else { after });
        let mut entries = if S::WITH_ATTR { PAGE_WITH_ATTR } else { PAGE_PLAIN };
        loop {
            let name_bytes = entries.saturating_mul(vfs::Name::LEN_MAX as u32);
            let budget = Budget { entries, name_bytes, with_attr: S::WITH_ATTR };
            let page = self.fs.readdir(who.context(), At::Open(&*dir), after, budget).await?;
            for entry in &page.entries {
                if self.list_entry(who, entry, sink).await? {
                    return Ok(());
                }
                after = entry.cookie;
            }
            if page.end || page.entries.is_empty() {
                return Ok(());
            }
            entries = entries.saturating_mul(2).min(PAGE_MAX);
        }
    }

    async fn list_dots<S: Sink>(
        &self,
        who: &Caller,
        ino: Ino,
        handle: &V::Handle,
        after: u64,
        sink: &mut S,
    ) -> Result<bool> {
        let itself = self.fs.getattr(who.context(), At::Open(handle)).await?;
        let itself = self.known(&itself);
        let dot = |cookie, name, known: Known| Listing {
            ino: known.attr.ino,
            cookie,
            kind: libc::S_IFDIR,
            name,
            known: Some(known),
        };
        if after < DOT && sink.is_full(&dot(DOT, b".", itself)) {
            return Ok(true);
        }
        // A directory that was removed while open has no parent any more.
        let parent = self.fs.parent(who.context(), ino).await;
        let parent = parent.map_or(itself, |entry| self.known(&entry));
        Ok(sink.is_full(&dot(DOT_DOT, b"..", parent)))
    }

    async fn list_entry<S: Sink>(
        &self,
        who: &Caller,
        entry: &DirEntry,
        sink: &mut S,
    ) -> Result<bool> {
        let known = match &entry.entry {
            Some(known) => Some(self.known(known)),
            None if S::WITH_ATTR => {
                match self.fs.getattr(who.context(), At::Ino(entry.ino)).await {
                    Ok(known) => Some(self.known(&known)),
                    // Removed since the page was made.
                    Err(error) if is_gone(&error) => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
            None => None,
        };
        Ok(sink.is_full(&Listing {
            ino: entry.ino.get(),
            cookie: entry.cookie.0,
            kind: file_type(entry.kind).0,
            name: &entry.name,
            known,
        }))
    }
}

fn is_gone(error: &vfs::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Stale)
}

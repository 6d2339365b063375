//! Listing directories.
//!
//! How many entries fit a reply depends on their names, so they are fetched in pages and
//! handed over until the reply is full. `.` and `..` are added here. A cookie holds for
//! ever, so there is nothing that its verifier could find out, and none is refused.

use super::Procedure;
use super::wire::POST_OP_LEN;
use crate::buffers::DATA_MAX;
use crate::core::{Ask, Core, OK, Target};
use crate::dispatch::Answer;
use crate::handle::HANDLE_LEN;
use crate::rpc::accept;
use crate::xdr::{Decoded, Decoder, Encoder, padded};
use vfs::{At, Attr, Budget, Cookie, DirEntry, DirPage, ErrorKind, Ino, Result, Vfs};

/// The status for a reply that has no room for a single entry.
const TOO_SMALL: u32 = 10_005;
/// The cookies of the two entries that are added here.
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;
/// Bytes of an entry without its name: that there is one, number, length, cookie.
const ENTRY_LEN: usize = 4 + 8 + 4 + 8;
/// What attributes and handle add to it.
const PLUS_LEN: usize = POST_OP_LEN + 4 + 4 + padded(HANDLE_LEN);
/// A usual name.
const NAME_LEN: usize = 16;
/// The directory's attributes and the cookie verifier.
const FRONT_LEN: usize = POST_OP_LEN + 8;
/// That there is no further entry, and whether there is any at all.
const BACK_LEN: usize = 8;

/// Which part of a directory is asked for, and how much of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    after: u64,
    /// Bytes of names, numbers and cookies.
    names_max: usize,
    /// Bytes in all.
    reply_max: usize,
    with_attr: bool,
}

impl Page {
    pub(super) fn decode(args: &mut Decoder<'_>, procedure: Procedure) -> Decoded<Self> {
        let after = args.u64()?;
        let _verifier: [u8; 8] = args.fixed()?;
        let bound = |bytes| usize::try_from(bytes).unwrap_or(DATA_MAX).min(DATA_MAX);
        let names_max = bound(args.u32()?);
        let with_attr = procedure == Procedure::ReadDirPlus;
        let reply_max = if with_attr { bound(args.u32()?) } else { names_max };
        Ok(Self { after, names_max, reply_max, with_attr })
    }

    /// The longest reply.
    pub(super) fn len_max(&self) -> usize {
        self.reply_max
    }

    fn procedure(&self) -> Procedure {
        if self.with_attr { Procedure::ReadDirPlus } else { Procedure::ReadDir }
    }
}

/// An entry on its way to the client.
#[derive(Clone, Copy)]
struct Listed<'a> {
    ino: Ino,
    cookie: u64,
    name: &'a [u8],
    attr: Option<&'a Attr>,
}

/// A reply that is being filled.
struct Listing {
    out: Encoder,
    /// Where the part begins whose length the caller bounds.
    from: usize,
    names_len: usize,
    count: usize,
    is_full: bool,
    page: Page,
}

impl Listing {
    /// Bytes that are left for entries.
    fn room(&self) -> usize {
        self.page.reply_max.saturating_sub(self.out.len() - self.from + BACK_LEN)
    }

    /// Bytes of an entry with a name of this length.
    fn entry_len(&self, name_len: usize) -> usize {
        let plus = if self.page.with_attr { PLUS_LEN } else { 0 };
        ENTRY_LEN + padded(name_len) + plus
    }

    /// How much to fetch: about as much as there is room for.
    fn budget(&self) -> Budget {
        let entries = self.room() / self.entry_len(NAME_LEN);
        // The room is at most a megabyte or so.
        Budget {
            entries: entries.max(1) as u32,
            name_bytes: self.room().max(1) as u32,
            with_attr: self.page.with_attr,
        }
    }

    /// Adds an entry, unless there is no room.
    fn add<V: Vfs>(&mut self, core: &Core<V>, entry: Listed<'_>) {
        let Listed { ino, cookie, name, attr } = entry;
        let names_len = ENTRY_LEN + padded(name.len());
        let is_over_names = self.page.with_attr && self.names_len + names_len > self.page.names_max;
        if is_over_names || self.entry_len(name.len()) > self.room() {
            self.is_full = true;
            return;
        }
        self.names_len += names_len;
        self.count += 1;
        self.out.bool(true);
        self.out.u64(ino.get());
        self.out.opaque(name);
        self.out.u64(cookie);
        if self.page.with_attr {
            core.put_post_op(&mut self.out, attr);
            self.out.bool(true);
            core.put_handle(&mut self.out, ino);
        }
    }
}

impl<V: Vfs> Core<V> {
    pub(super) async fn list(&self, ask: &Ask, dir: Target, page: Page) -> Answer {
        let capacity = 4 + page.reply_max.min(64 << 10);
        let mut out = accept(ask.xid, capacity);
        let status_at = out.len();
        out.u32(OK);
        let from = out.len();
        let mut listing = Listing { out, from, names_len: 0, count: 0, is_full: false, page };
        let filled = self.fill(ask, dir, &mut listing).await;
        let Listing { mut out, count, is_full, .. } = listing;
        let status = match filled {
            // That nothing follows can be said in any reply.
            Ok(end) if count > 0 || (end && !is_full) => {
                out.bool(false);
                out.bool(end);
                return out.into();
            }
            Ok(_) => TOO_SMALL,
            Err(error) => self.report(page.procedure(), dir, &error),
        };
        out.truncate(status_at);
        out.u32(status);
        self.put_post_op(&mut out, self.attr_of(ask, dir).await.as_ref());
        out.into()
    }

    /// Fills a reply; answers whether nothing follows.
    async fn fill(&self, ask: &Ask, dir: Target, listing: &mut Listing) -> Result<bool> {
        let dir = dir?;
        let asked = listing.page.after;
        let mut after = Cookie(if asked < Cookie::FIRST_ENTRY { 0 } else { asked });
        if listing.page.reply_max < FRONT_LEN + BACK_LEN {
            listing.is_full = true;
            // Whether there is such a directory comes first.
            return self.fetch(ask, dir, after, listing.budget()).await.map(|_| false);
        }
        let mut is_first = true;
        loop {
            let page = self.fetch(ask, dir, after, listing.budget()).await?;
            if is_first {
                self.put_post_op(&mut listing.out, Some(&page.dir));
                listing.out.u64(0);
                self.list_dots(ask, &page.dir, asked, listing).await;
                is_first = false;
            }
            for entry in &page.entries {
                if listing.is_full {
                    return Ok(false);
                }
                self.list_entry(ask, entry, listing).await?;
                after = entry.cookie;
            }
            // Where no name fits, there is no need to fetch one.
            let has_room = !listing.is_full && listing.room() >= listing.entry_len(1);
            if page.end || !has_room || page.entries.is_empty() {
                return Ok(!listing.is_full && page.end);
            }
        }
    }

    async fn fetch(&self, ask: &Ask, dir: Ino, after: Cookie, budget: Budget) -> Result<DirPage> {
        self.fs.readdir(ask.context(), At::Ino(dir), after, budget).await
    }

    async fn list_dots(&self, ask: &Ask, dir: &Attr, asked: u64, listing: &mut Listing) {
        if asked < DOT {
            listing.add(self, dot(DOT, b".", dir));
        }
        if asked < DOT_DOT && !listing.is_full {
            // Who may list a directory may not always search it.
            let parent = self.fs.parent(ask.context(), dir.ino).await;
            let parent = parent.map_or_else(|_| dir.clone(), |entry| entry.attr);
            listing.add(self, dot(DOT_DOT, b"..", &parent));
        }
    }

    async fn list_entry(&self, ask: &Ask, entry: &DirEntry, listing: &mut Listing) -> Result<()> {
        let DirEntry { ino, cookie: Cookie(cookie), ref name, entry: ref known, .. } = *entry;
        if !listing.page.with_attr {
            listing.add(self, Listed { ino, cookie, name, attr: None });
            return Ok(());
        }
        if let Some(known) = known {
            listing.add(self, Listed { ino, cookie, name, attr: Some(&known.attr) });
            return Ok(());
        }
        match self.entry(ask, Ok(ino)).await {
            Ok(known) => listing.add(self, Listed { ino, cookie, name, attr: Some(&known.attr) }),
            // Removed since the page was made.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Stale) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn dot<'a>(cookie: u64, name: &'a [u8], attr: &'a Attr) -> Listed<'a> {
    Listed { ino: attr.ino, cookie, name, attr: Some(attr) }
}

//! Making, moving, removing and listing names.

use super::{EEXIST, Handle, NO_ID, Remote, Shared, change_of, entry, fail, flags_of, ino_of};
use crate::p9::client::{
    Client, O_DIRECTORY, O_EXCL, O_RDONLY, Put, T_LINK, T_MKDIR, T_MKNOD, T_SYMLINK,
};
use bytes::Bytes;
use vfs::{
    At, Budget, Context, Cookie, Created, DirEntry, DirPage, ErrorKind, IfExists, Ino, Kind, Make,
    OpenFlags, RenameMode, Result, SetAttr, Wcc,
};

/// Bytes of entries fetched at once.
const LISTING_LEN: u32 = 32 << 10;

/// What of `attr` creating with a mode has not done already.
fn left_over(attr: &SetAttr, mode_is_done: bool) -> SetAttr {
    let is_given = attr.uid.is_some() || attr.gid.is_some();
    let mode = attr.mode.filter(|_| is_given || !mode_is_done);
    SetAttr { mode, ..attr.clone() }
}

impl Shared {
    /// Changes what was just made, or unmakes it.
    fn finish(
        &mut self,
        cx: Context<'_>,
        (dir, name): (Ino, &[u8]),
        rest: &SetAttr,
        remove: u32,
    ) -> Result<()> {
        let change = change_of(rest);
        if change.valid == 0 {
            return Ok(());
        }
        let changed = self.with(cx, dir, |client, fid| {
            client.walk(fid, fid, &[name]).map_err(fail)?;
            client.change(fid, &change).map_err(fail)
        });
        if changed.is_err() {
            self.with(cx, dir, |client, fid| client.unlink(fid, name, remove).map_err(fail))?;
        }
        changed
    }

    fn make_node(
        &mut self,
        cx: Context<'_>,
        (dir, name): (Ino, &[u8]),
        (mode, major, minor): (u32, u32, u32),
    ) -> Result<()> {
        let gid = cx.cred.gid.unwrap_or(NO_ID);
        self.with(cx, dir, |client, fid| {
            let put = Put::default().u32(fid).s(name).u32(mode).u32(major).u32(minor).u32(gid);
            client.call(T_MKNOD, &put).map(drop).map_err(fail)
        })
    }
}

impl Remote {
    pub(super) fn create_file(
        &self,
        cx: Context<'_>,
        dir: Ino,
        name: &[u8],
        attr: &SetAttr,
        if_exists: IfExists,
        open: Option<OpenFlags>,
    ) -> Result<Created<Handle>> {
        let is_exclusive = match if_exists {
            IfExists::Fail => true,
            IfExists::Reuse => false,
            IfExists::SameVerifier(_) => return Err(ErrorKind::NotSupported.into()),
        };
        let mode = u32::from(attr.mode.unwrap_or(0o600));
        let mut shared = self.shared();
        let create = |shared: &mut Shared| {
            let Some(flags) = open else {
                match shared.make_node(cx, (dir, name), (0o100_000 | mode, 0, 0)) {
                    Ok(()) => shared.finish(cx, (dir, name), &left_over(attr, true), 0)?,
                    Err(error) if error.kind() == ErrorKind::Exists && !is_exclusive => {
                        reuse(shared, cx, dir, name, attr)?;
                    }
                    Err(error) => return Err(error),
                }
                return Ok(None);
            };
            let fid = shared.fid(cx.cred.uid, dir)?;
            let gid = cx.cred.gid.unwrap_or(NO_ID);
            let flags = flags_of(flags);
            let mut made = shared.client.create(fid, name, flags | O_EXCL, mode, gid);
            let is_new = made.is_ok();
            if made == Err(EEXIST) && !is_exclusive {
                made = shared.client.create(fid, name, flags, mode, gid);
            }
            if let Err(errno) = made {
                shared.client.clunk(fid).map_err(fail)?;
                return Err(fail(errno));
            }
            let finished = if is_new {
                shared.finish(cx, (dir, name), &left_over(attr, true), 0)
            } else {
                reuse(shared, cx, dir, name, attr)
            };
            if finished.is_err() {
                shared.client.clunk(fid).map_err(fail)?;
            }
            finished.map(|()| Some(fid))
        };
        let (fid, wcc) = shared.around(At::Ino(dir), create)?;
        let attr = shared.remember(dir, name)?;
        drop(shared);
        let handle = fid.zip(open).map(|(fid, flags)| self.handle(fid, attr.ino, flags));
        Ok(Created { entry: entry(attr), dir: wcc, handle })
    }

    pub(super) fn make_other(
        &self,
        cx: Context<'_>,
        dir: Ino,
        name: &[u8],
        what: Make<'_>,
        attr: &SetAttr,
    ) -> Result<Created<Handle>> {
        let gid = cx.cred.gid.unwrap_or(NO_ID);
        let mode = |default| u32::from(attr.mode.unwrap_or(default));
        let make = |shared: &mut Shared| {
            let (mut rest, mut remove) = (left_over(attr, true), 0);
            let node = match what {
                Make::Directory => {
                    shared.with(cx, dir, |client, fid| {
                        let put = Put::default().u32(fid).s(name).u32(mode(0o700)).u32(gid);
                        client.call(T_MKDIR, &put).map_err(fail)
                    })?;
                    // mkdir(2) leaves the set-id bits out.
                    rest = left_over(attr, attr.mode.is_none_or(|mode| mode & 0o6000 == 0));
                    remove = 0x200;
                    None
                }
                Make::Symlink { target } => {
                    shared.with(cx, dir, |client, fid| {
                        let put = Put::default().u32(fid).s(name).s(target).u32(gid);
                        client.call(T_SYMLINK, &put).map_err(fail)
                    })?;
                    // Links have no mode of their own.
                    rest.mode = None;
                    None
                }
                Make::Node(Kind::Fifo) => Some((0o010_000, 0, 0)),
                Make::Node(Kind::Socket) => Some((0o140_000, 0, 0)),
                Make::Node(Kind::CharDevice { major, minor }) => Some((0o020_000, major, minor)),
                Make::Node(Kind::BlockDevice { major, minor }) => Some((0o060_000, major, minor)),
                Make::Node(_) => return Err(ErrorKind::Invalid.into()),
            };
            if let Some((kind, major, minor)) = node {
                shared.make_node(cx, (dir, name), (kind | mode(0o600), major, minor))?;
            }
            shared.finish(cx, (dir, name), &rest, remove)
        };
        let mut shared = self.shared();
        let ((), wcc) = shared.around(At::Ino(dir), make)?;
        Ok(Created { entry: entry(shared.remember(dir, name)?), dir: wcc, handle: None })
    }

    pub(super) fn add_link(
        &self,
        cx: Context<'_>,
        ino: Ino,
        dir: Ino,
        name: &[u8],
    ) -> Result<Created<Handle>> {
        let mut shared = self.shared();
        let file = *shared.known.get(&ino).ok_or(ErrorKind::Stale)?;
        let ((), wcc) = shared.around(At::Ino(dir), |shared| {
            shared.with(cx, dir, |client, fid| {
                let put = Put::default().u32(fid).u32(file).s(name);
                client.call(T_LINK, &put).map(drop).map_err(fail)
            })
        })?;
        Ok(Created { entry: entry(shared.remember(dir, name)?), dir: wcc, handle: None })
    }

    pub(super) fn remove(&self, cx: Context<'_>, dir: Ino, name: &[u8], flags: u32) -> Result<Wcc> {
        let ((), wcc) = self.shared().around(At::Ino(dir), |shared| {
            shared.with(cx, dir, |client, fid| client.unlink(fid, name, flags).map_err(fail))
        })?;
        Ok(wcc)
    }

    pub(super) fn move_name(
        &self,
        cx: Context<'_>,
        (from_dir, from): (Ino, &[u8]),
        (to_dir, to): (Ino, &[u8]),
        mode: RenameMode,
    ) -> Result<(Wcc, Wcc)> {
        if mode != RenameMode::Replace {
            return Err(ErrorKind::NotSupported.into());
        }
        let mut shared = self.shared();
        let (((), to_wcc), from_wcc) = shared.around(At::Ino(from_dir), |shared| {
            shared.around(At::Ino(to_dir), |shared| {
                let old = shared.fid(cx.cred.uid, from_dir)?;
                let renamed = shared.with(cx, to_dir, |client, new| {
                    client.rename((old, from), (new, to)).map_err(fail)
                });
                shared.client.clunk(old).map_err(fail)?;
                renamed
            })
        })?;
        shared.remember(to_dir, to)?;
        Ok((from_wcc, to_wcc))
    }

    pub(super) fn list(
        &self,
        cx: Context<'_>,
        dir: At<'_, Handle>,
        after: Cookie,
        budget: Budget,
    ) -> Result<DirPage> {
        let mut shared = self.shared();
        let ino = match dir {
            At::Ino(ino) => ino,
            At::Open(handle) => handle.ino,
        };
        let (listed, end) = shared.with_open(cx, dir, O_RDONLY | O_DIRECTORY, |client, fid| {
            list(client, fid, after, budget)
        })?;
        let mut entries = Vec::with_capacity(listed.len());
        for listed in listed {
            let found = ino_of(listed.qid.path);
            let mut kind = kind_of(listed.kind);
            let mut known = None;
            if budget.with_attr || kind.is_none() || !shared.known.contains_key(&found) {
                let attr = shared.remember(ino, &listed.name)?;
                kind = Some(attr.kind);
                known = budget.with_attr.then(|| entry(attr));
            }
            entries.push(DirEntry {
                ino: found,
                kind: kind.unwrap(),
                name: Bytes::from(listed.name),
                cookie: Cookie(listed.cookie),
                entry: known,
            });
        }
        Ok(DirPage { entries, end, dir: shared.attr(dir)? })
    }
}

/// Uses what is there, as a kernel does that opens without insisting.
fn reuse(
    shared: &mut Shared,
    cx: Context<'_>,
    dir: Ino,
    name: &[u8],
    attr: &SetAttr,
) -> Result<()> {
    let found = shared.remember(dir, name)?;
    match found.kind {
        Kind::Regular => {}
        Kind::Directory => return Err(ErrorKind::IsDirectory.into()),
        _ => return Err(ErrorKind::Exists.into()),
    }
    let change = change_of(&SetAttr { size: attr.size, ..SetAttr::default() });
    if change.valid == 0 {
        return Ok(());
    }
    shared.with(cx, found.ino, |client, fid| client.change(fid, &change).map_err(fail))
}

fn kind_of(kind: u8) -> Option<Kind> {
    match kind {
        1 => Some(Kind::Fifo),
        4 => Some(Kind::Directory),
        8 => Some(Kind::Regular),
        10 => Some(Kind::Symlink),
        12 => Some(Kind::Socket),
        _ => None,
    }
}

/// The entries after `after` that fit in `budget`, and whether nothing follows.
fn list(
    client: &mut Client,
    fid: u32,
    after: Cookie,
    budget: Budget,
) -> Result<(Vec<crate::p9::client::Listed>, bool)> {
    let (mut listed, mut name_bytes, mut after) = (Vec::new(), 0, after.0);
    loop {
        let page = client.list(fid, after, LISTING_LEN).map_err(fail)?;
        let Some(last) = page.last() else { return Ok((listed, true)) };
        after = last.cookie;
        for entry in page.into_iter().filter(|entry| entry.cookie > 2) {
            name_bytes += entry.name.len();
            let is_over =
                listed.len() >= budget.entries as usize || name_bytes > budget.name_bytes as usize;
            if is_over && !listed.is_empty() {
                return Ok((listed, false));
            }
            listed.push(entry);
        }
    }
}

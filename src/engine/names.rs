//! Names: looking up, creating, linking, removing, moving and listing.

use super::error::told;
use super::{Engine, FILE_SIZE_MAX, Handle, Inner, LINK_MAX, owned};
use crate::ids::LinkId;
use crate::log::op::{Node, Op};
use crate::meta::fold::NewInode;
use crate::meta::row::Dent;
use crate::meta::state::{DentKey, State};
use bytes::Bytes;
use parking_lot::MutexGuard;
use std::sync::Arc;
use vfs::{
    At, Attr, Budget, Context, Cookie, Created, Cred, DirEntry, DirPage, Entry, ErrorKind,
    IfExists, Ino, Kind, Make, Name, OpenFlags, RenameMode, Result, SetAttr, Timestamp, Validity,
    Wcc, rules,
};

/// Entries read from the database at a time when listing.
const PAGE_ROWS_MAX: usize = 1024;

/// A state that is locked for one call, with what every call needs.
pub(super) struct Call<'a> {
    pub(super) inner: &'a Arc<Inner>,
    pub(super) state: MutexGuard<'a, State>,
    pub(super) now: Timestamp,
}

impl<'a> Call<'a> {
    pub(super) fn begin(inner: &'a Arc<Inner>) -> Self {
        let now = inner.env.now();
        Self { inner, state: inner.state.lock(), now }
    }

    /// The attributes of an inode; `Stale` if it is gone.
    pub(super) fn attr(&mut self, ino: u64) -> Result<Attr> {
        let slot = self.state.slot(ino).map_err(told)?.ok_or(ErrorKind::Stale)?;
        let mut attr = self.inner.attr(ino, slot);
        attr.atime = self.state.read_at(ino).unwrap_or(attr.atime);
        Ok(attr)
    }

    fn entry(&mut self, ino: u64) -> Result<Entry> {
        Ok(Entry { attr: self.attr(ino)?, validity: Validity::UntilChanged })
    }

    fn dent(&mut self, dir: u64, name: Name<'_>) -> Result<(DentKey, Option<Dent>)> {
        let key = self.state.dent_key(dir, name.as_bytes());
        Ok((key, self.state.dent(&key).map_err(told)?))
    }

    fn must_dent(&mut self, dir: u64, name: Name<'_>) -> Result<(DentKey, Dent)> {
        let (key, dent) = self.dent(dir, name)?;
        Ok((key, dent.ok_or(ErrorKind::NotFound)?))
    }

    pub(super) fn handle(&mut self, ino: u64, flags: OpenFlags) -> Result<Handle> {
        let slot = self.state.slot(ino).map_err(told)?.ok_or(ErrorKind::Stale)?;
        slot.opens += 1;
        Ok(Handle::new(self.inner.clone(), ino, flags.read, flags.write || flags.truncate))
    }

    fn wcc(&mut self, before: &Attr) -> Result<Wcc> {
        let after = self.attr(before.ino.get()).unwrap_or_else(|_| before.clone());
        Ok(Wcc::new(before, after))
    }

    fn record(&mut self, ops: Vec<Op>) {
        let now = self.now;
        self.state.record(ops, now);
    }
}

/// What a new inode is to be.
struct Fresh<'a> {
    node: Node,
    asked: &'a SetAttr,
}

impl Call<'_> {
    /// Makes an inode with one name; the name is free.
    fn make_inode(
        &mut self,
        cx: Context<'_>,
        dir: &Attr,
        name: Bytes,
        fresh: Fresh<'_>,
    ) -> Result<u64> {
        rules::may_add(cx.cred, dir, cx.dac)?;
        if fresh.node == Node::Directory && dir.nlink >= u32::MAX - 1 {
            return Err(ErrorKind::TooManyLinks.into());
        }
        self.inner.check_inode_quota(&self.state)?;
        let kind = fresh.node.kind();
        let first = rules::first_attributes(cx.cred, dir, kind, fresh.asked, cx.dac)?;
        let time = rules::op_time(self.now, [dir.ctime]);
        let (link, ino) = self.inner.new_inode()?;
        let parent = dir.ino.get();
        let (mode, uid, gid) = (first.mode, first.uid, first.gid);
        let new = NewInode { node: fresh.node.clone(), mode, uid, gid };
        self.state.create((link, ino), (parent, name.clone()), new, time).map_err(told)?;
        let node = fresh.node;
        self.state.usage.inodes += 1;
        self.record(vec![Op::Create { link, ino, parent, name, node, mode, uid, gid, time }]);
        self.set_first_data(cx, ino, fresh.asked)?;
        Ok(ino)
    }

    /// Gives a new inode the length and the times that were asked for.
    fn set_first_data(&mut self, cx: Context<'_>, ino: u64, asked: &SetAttr) -> Result<()> {
        let made = self.attr(ino)?;
        if let Some(size) = asked.size.filter(|size| *size > 0) {
            // Part of what the file begins as: no change after which its mode says less.
            let cred = Cred::root();
            self.set_size(Context { cred: &cred, ..cx }, &made, size)?;
        }
        if asked.atime.is_none() && asked.mtime.is_none() {
            return Ok(());
        }
        let ctime = self.attr(ino)?.ctime;
        let time_of = |set| rules::time_of(set, ctime);
        let (atime, mtime) = (asked.atime.map(time_of), asked.mtime.map(time_of));
        self.apply(Op::SetAttr { ino, mode: None, uid: None, gid: None, atime, mtime, ctime })
    }
}

impl Engine {
    pub(super) fn do_lookup(&self, cx: Context<'_>, dir: Ino, name: Name<'_>) -> Result<Entry> {
        let mut call = Call::begin(&self.inner);
        let dir_attr = call.attr(dir.get())?;
        rules::may_look_up(cx.cred, &dir_attr, cx.dac)?;
        let (_, dent) = call.must_dent(dir.get(), name)?;
        call.entry(dent.ino)
    }

    pub(super) fn do_parent(&self, cx: Context<'_>, dir: Ino) -> Result<Entry> {
        let mut call = Call::begin(&self.inner);
        let attr = call.attr(dir.get())?;
        rules::may_look_up(cx.cred, &attr, cx.dac)?;
        let slot = call.state.slot(dir.get()).map_err(told)?.ok_or(ErrorKind::Stale)?;
        let parent = if slot.parent == 0 { dir.get() } else { slot.parent };
        call.entry(parent)
    }

    pub(super) fn do_open(&self, cx: Context<'_>, ino: Ino, flags: OpenFlags) -> Result<Handle> {
        if flags.write || flags.truncate {
            self.inner.check_writable()?;
        }
        let mut call = Call::begin(&self.inner);
        let attr = call.attr(ino.get())?;
        rules::may_open(cx.cred, &attr, flags, cx.dac)?;
        if flags.truncate && attr.kind == Kind::Regular {
            call.set_size(cx, &attr, 0)?;
        }
        call.handle(ino.get(), flags)
    }

    pub(super) fn do_create(
        &self,
        cx: Context<'_>,
        dir: Ino,
        name: Name<'_>,
        attr: &SetAttr,
        if_exists: IfExists,
        open: Option<OpenFlags>,
    ) -> Result<Created<Handle>> {
        let mut call = Call::begin(&self.inner);
        let before = call.attr(dir.get())?;
        rules::may_look_up(cx.cred, &before, cx.dac)?;
        let ino = match call.dent(dir.get(), name)?.1 {
            Some(dent) => {
                let found = call.attr(dent.ino)?;
                call.reuse(cx, &found, (if_exists, attr.size), open)?;
                dent.ino
            }
            None => {
                self.inner.check_writable()?;
                if attr.size.is_some_and(|size| size > FILE_SIZE_MAX) {
                    return Err(ErrorKind::FileTooBig.into());
                }
                let asked = rules::with_verifier(attr, if_exists);
                let fresh = Fresh { node: Node::Regular, asked: &asked };
                call.make_inode(cx, &before, owned(name), fresh)?
            }
        };
        let handle = open.map(|flags| call.handle(ino, flags)).transpose()?;
        Ok(Created { entry: call.entry(ino)?, dir: call.wcc(&before)?, handle })
    }

    pub(super) fn do_make(
        &self,
        cx: Context<'_>,
        dir: Ino,
        name: Name<'_>,
        what: Make<'_>,
        attr: &SetAttr,
    ) -> Result<Created<Handle>> {
        let node = match what {
            Make::Directory => Node::Directory,
            Make::Symlink { target } => {
                rules::symlink_target(target)?;
                Node::Symlink(Bytes::copy_from_slice(target))
            }
            Make::Node(Kind::Fifo) => Node::Fifo,
            Make::Node(Kind::Socket) => Node::Socket,
            Make::Node(Kind::CharDevice { major, minor }) => Node::CharDevice { major, minor },
            Make::Node(Kind::BlockDevice { major, minor }) => Node::BlockDevice { major, minor },
            Make::Node(Kind::Regular | Kind::Directory | Kind::Symlink) => {
                return Err(ErrorKind::Invalid.into());
            }
        };
        self.inner.check_writable()?;
        let mut call = Call::begin(&self.inner);
        let before = call.attr(dir.get())?;
        rules::may_look_up(cx.cred, &before, cx.dac)?;
        if call.dent(dir.get(), name)?.1.is_some() {
            return Err(ErrorKind::Exists.into());
        }
        if let Make::Node(kind) = what {
            rules::may_add(cx.cred, &before, cx.dac)?;
            rules::may_make_node(cx.cred, kind, cx.dac)?;
        }
        let ino = call.make_inode(cx, &before, owned(name), Fresh { node, asked: attr })?;
        Ok(Created { entry: call.entry(ino)?, dir: call.wcc(&before)?, handle: None })
    }

    pub(super) fn do_link(
        &self,
        cx: Context<'_>,
        ino: Ino,
        dir: Ino,
        name: Name<'_>,
    ) -> Result<Created<Handle>> {
        self.inner.check_writable()?;
        let mut call = Call::begin(&self.inner);
        let before = call.attr(dir.get())?;
        let target = call.attr(ino.get())?;
        rules::may_look_up(cx.cred, &before, cx.dac)?;
        if call.dent(dir.get(), name)?.1.is_some() {
            return Err(ErrorKind::Exists.into());
        }
        rules::link(cx.cred, &target, &before, LINK_MAX, cx.dac)?;
        let time = rules::op_time(call.now, [before.ctime, target.ctime]);
        let link = self.inner.new_link()?;
        let (parent, name) = (dir.get(), owned(name));
        call.state.add_link((link, ino.get()), (parent, name.clone()), time).map_err(told)?;
        call.record(vec![Op::Link { link, ino: ino.get(), parent, name, time }]);
        Ok(Created { entry: call.entry(ino.get())?, dir: call.wcc(&before)?, handle: None })
    }

    /// Removes a name; `is_dir` says whether a directory's is meant.
    pub(super) fn do_remove(
        &self,
        cx: Context<'_>,
        dir: Ino,
        name: Name<'_>,
        is_dir: bool,
    ) -> Result<Wcc> {
        self.inner.check_writable()?;
        let mut call = Call::begin(&self.inner);
        let before = call.attr(dir.get())?;
        rules::may_look_up(cx.cred, &before, cx.dac)?;
        let (key, dent) = call.must_dent(dir.get(), name)?;
        let victim = call.attr(dent.ino)?;
        if is_dir {
            let is_empty = victim.kind != Kind::Directory
                || call.state.is_empty_dir(dent.ino).map_err(told)?;
            rules::rmdir(cx.cred, &before, &victim, is_empty, cx.dac)?;
        } else {
            rules::unlink(cx.cred, &before, &victim, cx.dac)?;
        }
        let time = rules::op_time(call.now, [before.ctime, victim.ctime]);
        call.state.remove_link(key, time).map_err(told)?;
        call.count_removed(dent.ino);
        call.record(vec![Op::Remove { link: dent.link, time }]);
        call.wcc(&before)
    }

    pub(super) fn do_rename(
        &self,
        cx: Context<'_>,
        from: (Ino, Name<'_>),
        to: (Ino, Name<'_>),
        mode: RenameMode,
    ) -> Result<(Wcc, Wcc)> {
        self.inner.check_writable()?;
        let mut call = Call::begin(&self.inner);
        let (from_before, to_before) = (call.attr(from.0.get())?, call.attr(to.0.get())?);
        rules::may_look_up(cx.cred, &from_before, cx.dac)?;
        rules::may_look_up(cx.cred, &to_before, cx.dac)?;
        let (_, source) = call.must_dent(from.0.get(), from.1)?;
        let (_, target) = call.dent(to.0.get(), to.1)?;
        let source_attr = call.attr(source.ino)?;
        let target_attr = target.as_ref().map(|dent| call.attr(dent.ino)).transpose()?;
        let facts =
            call.rename_facts((&from_before, &source_attr), (&to_before, target_attr.as_ref()))?;
        let plan = rules::rename(cx.cred, facts, mode, cx.dac)?;
        if plan != rules::RenamePlan::Nothing {
            let ctimes = [&from_before, &to_before, &source_attr]
                .into_iter()
                .chain(&target_attr)
                .map(|attr| attr.ctime);
            let time = rules::op_time(call.now, ctimes);
            call.perform_rename((from, &source), (to, target.as_ref()), plan, time)?;
        }
        Ok((call.wcc(&from_before)?, call.wcc(&to_before)?))
    }

    pub(super) fn do_readdir(
        &self,
        cx: Context<'_>,
        dir: At<'_, Handle>,
        after: Cookie,
        budget: Budget,
    ) -> Result<DirPage> {
        let target = super::handle::Target::of(dir);
        let mut call = Call::begin(&self.inner);
        let attr = call.attr(target.ino)?;
        if attr.kind != Kind::Directory {
            return Err(ErrorKind::NotDirectory.into());
        }
        if target.is_open {
            target.check(target.can_read)?;
        } else {
            rules::may(cx.cred, &attr, vfs::Access::READ, cx.dac)?;
        }
        let (entries, end) = call.list(target.ino, after, budget)?;
        call.touch_atime(&attr)?;
        Ok(DirPage { entries, end, dir: call.attr(target.ino)? })
    }
}

impl Call<'_> {
    /// What happens when a name to be created is there already.
    fn reuse(
        &mut self,
        cx: Context<'_>,
        found: &Attr,
        (if_exists, size): (IfExists, Option<u64>),
        open: Option<OpenFlags>,
    ) -> Result<()> {
        match if_exists {
            IfExists::Fail => return Err(ErrorKind::Exists.into()),
            IfExists::SameVerifier(verifier) => {
                if !rules::has_verifier(found, verifier) {
                    return Err(ErrorKind::Exists.into());
                }
            }
            IfExists::Reuse if found.kind != Kind::Regular => {
                let is_dir = found.kind == Kind::Directory;
                let kind = if is_dir { ErrorKind::IsDirectory } else { ErrorKind::Exists };
                return Err(kind.into());
            }
            IfExists::Reuse => {}
        }
        // Of the attributes only the length counts for a file that is there, and all is
        // judged before any of it is done.
        let size = size.filter(|_| if_exists == IfExists::Reuse);
        let flags = open.unwrap_or_default();
        if open.is_some() {
            rules::may_open(cx.cred, found, flags, cx.dac)?;
        }
        if size.is_some() {
            let set = SetAttr { size, ..SetAttr::default() };
            rules::setattr(cx.cred, found, &set, false, FILE_SIZE_MAX, cx.dac)?;
        }
        if size.is_some() || flags.write || flags.truncate {
            self.inner.check_writable()?;
        }
        match size {
            _ if flags.truncate => self.set_size(cx, found, 0),
            Some(size) => self.set_size(cx, found, size),
            None => Ok(()),
        }
    }

    /// Keeps the count of inodes when one may have lost its last name.
    fn count_removed(&mut self, ino: u64) {
        if self.state.cached_slot(ino).is_some_and(|slot| slot.is_nameless()) {
            self.state.usage.inodes = self.state.usage.inodes.saturating_sub(1);
            self.drop_if_unused(ino);
        }
    }

    /// Lets go of the data of an inode that nobody can reach any more.
    fn drop_if_unused(&mut self, ino: u64) {
        let Some(slot) = self.state.cached_slot(ino).filter(|slot| slot.opens == 0) else { return };
        let unsaved = slot.file.as_mut().map_or(0, |file| {
            let unsaved = file.current.extents.len();
            file.current = Default::default();
            unsaved
        });
        self.state.dirty_bytes -= unsaved;
        self.inner.locks.forget(super::ino_of(ino));
    }

    fn rename_facts<'f>(
        &mut self,
        (from_dir, source): (&'f Attr, &'f Attr),
        (to_dir, target): (&'f Attr, Option<&'f Attr>),
    ) -> Result<rules::RenameFacts<'f>> {
        let mut holds = |dir: &Attr, below: &Attr| -> Result<bool> {
            if dir.kind != Kind::Directory {
                return Ok(false);
            }
            self.state.is_within(below.ino.get(), dir.ino.get()).map_err(told)
        };
        let source_holds_to_dir = holds(source, to_dir)?;
        let target_holds_from_dir = match target {
            Some(target) => holds(target, from_dir)?,
            None => false,
        };
        let target_is_empty = match target {
            Some(target) if target.kind == Kind::Directory => {
                self.state.is_empty_dir(target.ino.get()).map_err(told)?
            }
            _ => true,
        };
        Ok(rules::RenameFacts {
            from_dir,
            source,
            to_dir,
            target,
            source_holds_to_dir,
            target_holds_from_dir,
            target_is_empty,
        })
    }

    fn perform_rename(
        &mut self,
        ((from_dir, from_name), source): ((Ino, Name<'_>), &Dent),
        ((to_dir, to_name), target): ((Ino, Name<'_>), Option<&Dent>),
        plan: rules::RenamePlan,
        time: Timestamp,
    ) -> Result<()> {
        let mut moves = vec![(source.link, to_dir.get(), owned(to_name))];
        let mut replaced: Vec<LinkId> = Vec::new();
        match (plan, target) {
            (rules::RenamePlan::Exchange, Some(target)) => {
                moves.push((target.link, from_dir.get(), owned(from_name)));
            }
            (_, Some(target)) => replaced.push(target.link),
            (_, None) => {}
        }
        self.state.move_links(&moves, &replaced, time).map_err(told)?;
        if let (Some(target), false) = (target, replaced.is_empty()) {
            self.count_removed(target.ino);
        }
        let mut replaces = Some(replaced);
        let ops = moves
            .into_iter()
            .map(|(link, parent, name)| Op::Move {
                link,
                parent,
                name,
                replaces: replaces.take().unwrap_or_default(),
                time,
            })
            .collect();
        self.record(ops);
        Ok(())
    }

    fn list(&mut self, dir: u64, after: Cookie, budget: Budget) -> Result<(Vec<DirEntry>, bool)> {
        let mut entries: Vec<DirEntry> = Vec::new();
        let mut names_len = 0;
        let mut from = DentKey::last_at(dir, after.0);
        loop {
            let rows = (budget.entries as usize).clamp(1, PAGE_ROWS_MAX);
            let (found, end) = self.state.children(from, rows).map_err(told)?;
            for (key, dent) in found {
                // Two names with one cookie go into the same page, or the second
                // would never be seen.
                let is_twin = entries.last().is_some_and(|last| last.cookie.0 == key.cookie());
                names_len += dent.name.len();
                let is_full = entries.len() >= budget.entries as usize
                    || names_len > budget.name_bytes as usize;
                if is_full && !is_twin && !entries.is_empty() {
                    return Ok((entries, false));
                }
                from = key;
                let attr = self.attr(dent.ino)?;
                entries.push(DirEntry {
                    ino: attr.ino,
                    kind: attr.kind,
                    name: dent.name,
                    cookie: Cookie(key.cookie()),
                    entry: budget
                        .with_attr
                        .then_some(Entry { attr, validity: Validity::UntilChanged }),
                });
            }
            if end {
                return Ok((entries, true));
            }
        }
    }
}

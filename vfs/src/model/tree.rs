//! Names: looking up, adding, removing, moving and listing them.

use super::sparse::Sparse;
use super::state::{Body, Dir, State, Touch};
use super::{Made, Reach};
use crate::rules::{self, RenameFacts, RenamePlan};
use crate::{
    Access, Attr, Budget, Context, Cookie, DirEntry, DirPage, Entry, ErrorKind, IfExists, Ino,
    Kind, Make, Name, OpenFlags, RenameMode, Result, SetAttr, Wcc,
};
use bytes::Bytes;

impl State {
    fn find(&self, dir: Ino, name: Name<'_>) -> Result<Option<Ino>> {
        Ok(self.dir(dir)?.names.get(name.as_bytes()).map(|dentry| dentry.ino))
    }

    /// Looks `name` up, which must be there.
    fn resolve(&self, cx: Context<'_>, dir: Ino, name: Name<'_>) -> Result<Ino> {
        rules::may_look_up(cx.cred, self.attr(dir)?, cx.dac)?;
        self.find(dir, name)?.ok_or_else(|| ErrorKind::NotFound.into())
    }

    pub(super) fn lookup(&self, cx: Context<'_>, dir: Ino, name: Name<'_>) -> Result<Entry> {
        self.entry(self.resolve(cx, dir, name)?)
    }

    pub(super) fn parent(&self, cx: Context<'_>, dir: Ino) -> Result<Entry> {
        rules::may_look_up(cx.cred, self.attr(dir)?, cx.dac)?;
        self.entry(self.dir(dir)?.parent)
    }

    pub(super) fn create(
        &mut self,
        cx: Context<'_>,
        (dir, name): (Ino, Name<'_>),
        asked: &SetAttr,
        if_exists: IfExists,
        open: Option<OpenFlags>,
    ) -> Result<Made> {
        rules::may_look_up(cx.cred, self.attr(dir)?, cx.dac)?;
        let before = self.attr(dir)?.clone();
        if let Some(ino) = self.find(dir, name)? {
            self.reuse(cx, ino, asked, if_exists, open)?;
            return self.made(ino, &before, open);
        }
        if asked.size.is_some_and(|size| size > self.options.limits.file_size_max) {
            return Err(ErrorKind::FileTooBig.into());
        }
        let body = Body::File(Sparse::new(self.options.block));
        let asked = rules::with_verifier(asked, if_exists);
        let ino = self.add(cx, (dir, name), Kind::Regular, body, &asked)?;
        let inode = self.inode_mut(ino)?;
        inode.attr.size = asked.size.unwrap_or(0);
        inode.handles += u64::from(open.is_some());
        self.made(ino, &before, open)
    }

    /// Creates onto a name that is taken.
    fn reuse(
        &mut self,
        cx: Context<'_>,
        ino: Ino,
        asked: &SetAttr,
        if_exists: IfExists,
        open: Option<OpenFlags>,
    ) -> Result<()> {
        let inode = self.inode_mut(ino)?;
        match if_exists {
            IfExists::Fail => return Err(ErrorKind::Exists.into()),
            IfExists::SameVerifier(verifier) => {
                if !rules::has_verifier(&inode.attr, verifier) {
                    return Err(ErrorKind::Exists.into());
                }
                inode.handles += u64::from(open.is_some());
                return Ok(());
            }
            IfExists::Reuse => {}
        }
        match inode.attr.kind {
            Kind::Regular => {}
            Kind::Directory => return Err(ErrorKind::IsDirectory.into()),
            _ => return Err(ErrorKind::Exists.into()),
        }
        // Of the attributes only the length counts for a file that is there.
        let size = SetAttr { size: asked.size, ..SetAttr::default() };
        if let Some(flags) = open {
            rules::may_open(cx.cred, &inode.attr, flags, cx.dac)?;
        }
        self.setattr(cx, Reach { ino, opened: None }, &size)?;
        if let Some(flags) = open {
            self.open(cx, ino, flags)?;
        }
        Ok(())
    }

    fn made(&self, ino: Ino, dir_before: &Attr, open: Option<OpenFlags>) -> Result<Made> {
        Ok(Made { entry: self.entry(ino)?, dir: self.wcc(dir_before)?, open })
    }

    /// Adds a new inode under a name that is free.
    fn add(
        &mut self,
        cx: Context<'_>,
        (dir, name): (Ino, Name<'_>),
        kind: Kind,
        body: Body,
        asked: &SetAttr,
    ) -> Result<Ino> {
        let parent = self.attr(dir)?;
        rules::may_add(cx.cred, parent, cx.dac)?;
        let first = rules::first_attributes(cx.cred, parent, kind, asked, cx.dac)?;
        let time = self.touch(&[(dir, Touch::Data)]);
        let ino = self.insert(kind, first, body, time);
        let attr = &mut self.inode_mut(ino)?.attr;
        attr.atime = asked.atime.map_or(time, |set| rules::time_of(set, time));
        attr.mtime = asked.mtime.map_or(time, |set| rules::time_of(set, time));
        self.dir_mut(dir)?.put(name.as_bytes(), ino);
        if kind == Kind::Directory {
            self.inode_mut(dir)?.attr.nlink += 1;
        }
        Ok(ino)
    }

    pub(super) fn make(
        &mut self,
        cx: Context<'_>,
        (dir, name): (Ino, Name<'_>),
        what: Make<'_>,
        asked: &SetAttr,
    ) -> Result<Made> {
        // As Linux does: the target is looked at before any path is.
        if let Make::Symlink { target } = what {
            rules::symlink_target(target)?;
        }
        let before = self.attr(dir)?.clone();
        rules::may_look_up(cx.cred, &before, cx.dac)?;
        if self.find(dir, name)?.is_some() {
            return Err(ErrorKind::Exists.into());
        }
        rules::may_add(cx.cred, &before, cx.dac)?;
        let (kind, body) = match what {
            Make::Directory => (Kind::Directory, Body::Dir(Dir::new(dir))),
            Make::Symlink { target } => {
                (Kind::Symlink, Body::Symlink(Bytes::copy_from_slice(target)))
            }
            Make::Node(kind) => {
                rules::may_make_node(cx.cred, kind, cx.dac)?;
                (kind, Body::Node)
            }
        };
        let ino = self.add(cx, (dir, name), kind, body, asked)?;
        self.made(ino, &before, None)
    }

    pub(super) fn link(
        &mut self,
        cx: Context<'_>,
        ino: Ino,
        (dir, name): (Ino, Name<'_>),
    ) -> Result<Made> {
        let before = self.attr(dir)?.clone();
        let inode = self.attr(ino)?.clone();
        rules::may_look_up(cx.cred, &before, cx.dac)?;
        if self.find(dir, name)?.is_some() {
            return Err(ErrorKind::Exists.into());
        }
        rules::link(cx.cred, &inode, &before, self.options.limits.link_max, cx.dac)?;
        self.dir_mut(dir)?.put(name.as_bytes(), ino);
        self.inode_mut(ino)?.attr.nlink += 1;
        self.touch(&[(dir, Touch::Data), (ino, Touch::Attr)]);
        self.made(ino, &before, None)
    }

    pub(super) fn unlink(&mut self, cx: Context<'_>, dir: Ino, name: Name<'_>) -> Result<Wcc> {
        let ino = self.resolve(cx, dir, name)?;
        let before = self.attr(dir)?.clone();
        rules::unlink(cx.cred, &before, self.attr(ino)?, cx.dac)?;
        self.dir_mut(dir)?.remove(name.as_bytes());
        self.touch(&[(dir, Touch::Data), (ino, Touch::Attr)]);
        self.drop_name(ino)?;
        self.wcc(&before)
    }

    pub(super) fn rmdir(&mut self, cx: Context<'_>, dir: Ino, name: Name<'_>) -> Result<Wcc> {
        let ino = self.resolve(cx, dir, name)?;
        let before = self.attr(dir)?.clone();
        let is_empty = self.has_no_entries(ino);
        rules::rmdir(cx.cred, &before, self.attr(ino)?, is_empty, cx.dac)?;
        self.dir_mut(dir)?.remove(name.as_bytes());
        self.inode_mut(dir)?.attr.nlink -= 1;
        self.touch(&[(dir, Touch::Data), (ino, Touch::Attr)]);
        self.drop_name(ino)?;
        self.wcc(&before)
    }

    fn has_no_entries(&self, ino: Ino) -> bool {
        self.dir(ino).is_ok_and(|dir| dir.names.is_empty())
    }

    /// An inode has lost a name; a directory has only one.
    fn drop_name(&mut self, ino: Ino) -> Result<()> {
        let attr = &mut self.inode_mut(ino)?.attr;
        attr.nlink = if attr.kind == Kind::Directory { 0 } else { attr.nlink - 1 };
        self.reap(ino);
        Ok(())
    }

    /// Whether `ino` is `below` or one of the directories above it.
    fn holds(&self, ino: Ino, mut below: Ino) -> bool {
        loop {
            if below == ino {
                return true;
            }
            match self.dir(below) {
                Ok(dir) if dir.parent != below => below = dir.parent,
                _ => return false,
            }
        }
    }

    pub(super) fn rename(
        &mut self,
        cx: Context<'_>,
        from: (Ino, Name<'_>),
        to: (Ino, Name<'_>),
        mode: RenameMode,
    ) -> Result<(Wcc, Wcc)> {
        let (from_dir, to_dir) = (self.attr(from.0)?.clone(), self.attr(to.0)?.clone());
        rules::may_look_up(cx.cred, &from_dir, cx.dac)?;
        rules::may_look_up(cx.cred, &to_dir, cx.dac)?;
        let source = self.find(from.0, from.1)?.ok_or(ErrorKind::NotFound)?;
        let target = self.find(to.0, to.1)?;
        let facts = RenameFacts {
            from_dir: &from_dir,
            source: self.attr(source)?,
            to_dir: &to_dir,
            target: target.map(|ino| self.attr(ino)).transpose()?,
            source_holds_to_dir: self.holds(source, to.0),
            target_holds_from_dir: target.is_some_and(|target| self.holds(target, from.0)),
            target_is_empty: target.is_some_and(|target| self.has_no_entries(target)),
        };
        let plan = rules::rename(cx.cred, facts, mode, cx.dac)?;
        if plan != RenamePlan::Nothing {
            let other = target.filter(|_| plan != RenamePlan::Move);
            self.carry_out(plan, from, to, source, other)?;
        }
        Ok((self.wcc(&from_dir)?, self.wcc(&to_dir)?))
    }

    fn carry_out(
        &mut self,
        plan: RenamePlan,
        from: (Ino, Name<'_>),
        to: (Ino, Name<'_>),
        source: Ino,
        target: Option<Ino>,
    ) -> Result<()> {
        let mut touched = vec![(from.0, Touch::Data), (to.0, Touch::Data), (source, Touch::Attr)];
        touched.extend(target.map(|ino| (ino, Touch::Attr)));
        self.touch(&touched);
        self.dir_mut(to.0)?.put(to.1.as_bytes(), source);
        self.change_parent(source, from.0, to.0)?;
        match (plan, target) {
            (RenamePlan::Exchange, Some(target)) => {
                self.dir_mut(from.0)?.put(from.1.as_bytes(), target);
                self.change_parent(target, to.0, from.0)?;
            }
            (_, target) => {
                self.dir_mut(from.0)?.remove(from.1.as_bytes());
                if let Some(target) = target {
                    if self.attr(target)?.kind == Kind::Directory {
                        self.inode_mut(to.0)?.attr.nlink -= 1;
                    }
                    self.drop_name(target)?;
                }
            }
        }
        Ok(())
    }

    fn change_parent(&mut self, ino: Ino, from: Ino, to: Ino) -> Result<()> {
        if self.attr(ino)?.kind == Kind::Directory {
            self.dir_mut(ino)?.parent = to;
            self.inode_mut(from)?.attr.nlink -= 1;
            self.inode_mut(to)?.attr.nlink += 1;
        }
        Ok(())
    }

    pub(super) fn readdir(
        &mut self,
        cx: Context<'_>,
        at: Reach,
        after: Cookie,
        budget: Budget,
    ) -> Result<DirPage> {
        let dir = self.dir(at.ino)?;
        let attr = self.attr(at.ino)?;
        match at.opened {
            None => rules::may(cx.cred, attr, Access::READ, cx.dac)?,
            Some(flags) if flags.read => {}
            Some(_) => return Err(ErrorKind::BadHandle.into()),
        }
        if attr.nlink == 0 {
            return Err(ErrorKind::NotFound.into());
        }
        // Attributes are what a lookup would tell.
        let with_attr = budget.with_attr && rules::may_look_up(cx.cred, attr, cx.dac).is_ok();
        let mut entries: Vec<DirEntry> = Vec::new();
        let (mut end, mut name_bytes) = (true, 0);
        for (&cookie, name) in dir.cookies.range(after.0.saturating_add(1)..) {
            name_bytes += name.len() as u64;
            let is_full = entries.len() as u64 >= u64::from(budget.entries)
                || name_bytes > u64::from(budget.name_bytes);
            if is_full && !entries.is_empty() {
                end = false;
                break;
            }
            let ino = dir.names.get(name).ok_or(ErrorKind::Corrupt)?.ino;
            let entry = self.entry(ino)?;
            entries.push(DirEntry {
                ino,
                kind: entry.attr.kind,
                name: name.clone(),
                cookie: Cookie(cookie),
                entry: with_attr.then_some(entry),
            });
        }
        self.accessed(at.ino)?;
        Ok(DirPage { entries, end, dir: self.attr(at.ino)?.clone() })
    }

    /// Counts a handle; [`super::ModelHandle`] takes it back when dropped.
    pub(super) fn open(&mut self, cx: Context<'_>, ino: Ino, flags: OpenFlags) -> Result<()> {
        let inode = self.inode_mut(ino)?;
        rules::may_open(cx.cred, &inode.attr, flags, cx.dac)?;
        inode.handles += 1;
        if flags.truncate {
            self.resize(ino, 0)?;
            self.written(cx, ino)?;
        }
        Ok(())
    }
}

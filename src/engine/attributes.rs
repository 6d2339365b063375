//! Attributes, permissions and extended attributes.

use super::error::told;
use super::handle::Target;
use super::names::Call;
use super::{Engine, FILE_SIZE_MAX, Handle};
use crate::log::op::Op;
use bytes::Bytes;
use vfs::{
    Access, At, Attr, Context, Entry, ErrorKind, Ino, Kind, Result, SetAttr, Validity, Wcc,
    XattrMode, rules,
};

impl Engine {
    pub(super) fn do_getattr(&self, at: At<'_, Handle>) -> Result<Entry> {
        let attr = Call::begin(&self.inner).attr(Target::of(at).ino)?;
        Ok(Entry { attr, validity: Validity::UntilChanged })
    }

    pub(super) fn do_setattr(
        &self,
        cx: Context<'_>,
        at: At<'_, Handle>,
        set: &SetAttr,
    ) -> Result<Wcc> {
        self.inner.check_writable()?;
        let target = Target::of(at);
        let mut call = Call::begin(&self.inner);
        let before = call.attr(target.ino)?;
        if set.size.is_some() && target.is_open && !target.can_write {
            return Err(ErrorKind::Invalid.into());
        }
        let changed =
            rules::setattr(cx.cred, &before, set, target.can_write, FILE_SIZE_MAX, cx.dac)?;
        if let Some(size) = set.size {
            call.set_size(cx, &before, size)?;
        }
        let now = call.attr(target.ino)?;
        let time = rules::op_time(call.now, [now.ctime]);
        let time_of = |set| rules::time_of(set, time);
        let differs = |new: u32, old: u32| (new != old).then_some(new);
        let op = Op::SetAttr {
            ino: target.ino,
            mode: (changed.mode != now.mode).then_some(changed.mode),
            uid: differs(changed.uid, now.uid),
            gid: differs(changed.gid, now.gid),
            atime: set.atime.map(time_of),
            mtime: set.mtime.map(time_of),
            ctime: time,
        };
        let asks = set.mode.is_some() || set.uid.is_some() || set.gid.is_some();
        if asks || set.atime.is_some() || set.mtime.is_some() || changed.mode != now.mode {
            call.apply(op)?;
        }
        if rules::setattr_drops_capability(&before, set) {
            call.drop_capability(target.ino)?;
        }
        Ok(Wcc::new(&before, call.attr(target.ino)?))
    }

    pub(super) fn do_access(&self, cx: Context<'_>, ino: Ino, want: Access) -> Result<Access> {
        let attr = Call::begin(&self.inner).attr(ino.get())?;
        let granted = match cx.dac {
            vfs::Dac::Delegated => want,
            _ => rules::granted(cx.cred, &attr),
        };
        Ok(Access(granted.0 & want.0))
    }

    pub(super) fn do_readlink(&self, ino: Ino) -> Result<Bytes> {
        let mut call = Call::begin(&self.inner);
        let slot = call.state.slot(ino.get()).map_err(told)?.ok_or(ErrorKind::Stale)?;
        match &slot.inode.node {
            crate::log::op::Node::Symlink(target) => Ok(target.clone()),
            _ => Err(ErrorKind::Invalid.into()),
        }
    }

    pub(super) fn do_xattr(&self, cx: Context<'_>, ino: Ino, name: &[u8]) -> Result<Bytes> {
        let mut call = Call::begin(&self.inner);
        let attr = call.attr(ino.get())?;
        rules::may_read_xattr(cx.cred, &attr, name, cx.dac)?;
        let slot = call.state.slot(ino.get()).map_err(told)?.ok_or(ErrorKind::Stale)?;
        Ok(slot.inode.xattrs.get(name).cloned().ok_or(ErrorKind::NoData)?)
    }

    pub(super) fn do_set_xattr(
        &self,
        cx: Context<'_>,
        ino: Ino,
        name: &[u8],
        value: Option<Bytes>,
        mode: XattrMode,
    ) -> Result<()> {
        self.inner.check_writable()?;
        let mut call = Call::begin(&self.inner);
        let attr = call.attr(ino.get())?;
        rules::may_write_xattr(cx.cred, &attr, name, value.as_ref().map(Bytes::len), cx.dac)?;
        let slot = call.state.slot(ino.get()).map_err(told)?.ok_or(ErrorKind::Stale)?;
        let xattrs = &slot.inode.xattrs;
        let old = xattrs.get(name);
        if value.is_none() && old.is_none() {
            return Err(ErrorKind::NoData.into());
        }
        if let Some(value) = &value {
            rules::xattr_mode_allows(mode, old.is_some())?;
            let others = xattrs.iter().filter(|(known, _)| known[..] != *name);
            let total: usize = others.map(|(name, value)| name.len() + value.len()).sum();
            rules::xattr_fits(total + name.len() + value.len())?;
        }
        let ctime = rules::op_time(call.now, [attr.ctime]);
        let name = Bytes::copy_from_slice(name);
        call.apply(Op::SetXattr { ino: ino.get(), name, value, ctime })
    }

    pub(super) fn do_xattrs(&self, cx: Context<'_>, ino: Ino) -> Result<Vec<Bytes>> {
        let mut call = Call::begin(&self.inner);
        let slot = call.state.slot(ino.get()).map_err(told)?.ok_or(ErrorKind::Stale)?;
        let listed = slot.inode.xattrs.keys().filter(|name| rules::xattr_is_listed(cx.cred, name));
        Ok(listed.cloned().collect())
    }
}

impl Call<'_> {
    /// Makes one op happen and records it.
    pub(super) fn apply(&mut self, op: Op) -> Result<()> {
        self.state.apply(std::slice::from_ref(&op)).map_err(told)?;
        let now = self.now;
        let (Op::SetAttr { ino, .. } | Op::SetXattr { ino, .. }) = op else {
            self.state.record(vec![op], now);
            return Ok(());
        };
        let sets_only_mtime =
            matches!(op, Op::SetAttr { mode: None, uid: None, gid: None, atime: None, .. });
        // What has no name any more is nobody else's business, and the op that tells of
        // new content brings the times of that moment along.
        let is_told = self.state.cached_slot(ino).is_some_and(|slot| {
            slot.is_nameless() || (sets_only_mtime && slot.will_tell_of_content())
        });
        self.state.record(if is_told { vec![] } else { vec![op] }, now);
        Ok(())
    }

    /// Records a read, if relatime asks for it.
    pub(super) fn touch_atime(&mut self, attr: &Attr) -> Result<()> {
        let policy = self.inner.settings.atime;
        let is_off = policy == super::AtimePolicy::Noatime || self.inner.check_writable().is_err();
        if is_off || attr.nlink == 0 || !rules::atime_is_due(attr, self.now) {
            return Ok(());
        }
        self.state.touch_atime(attr.ino.get(), self.now);
        Ok(())
    }

    /// Sets the length of a file; the caller has checked that it may be.
    pub(super) fn set_size(&mut self, cx: Context<'_>, before: &Attr, size: u64) -> Result<()> {
        if before.kind != Kind::Regular {
            return Ok(());
        }
        let ino = before.ino.get();
        self.with_file(ino, |file, block_size| {
            if size < before.size {
                file.current.truncate(size, block_size);
            }
        })?;
        self.touch_data(cx, before, size)
    }
}

//! Extended attributes: a fid stands for one while it is read or written.
//!
//! ACLs are refused: a client would keep them without anybody enforcing them, and an
//! access list that restricts nobody is worse than none.

use super::{Session, context};
use crate::fids::Role;
use crate::wire::{Reply, XATTR_CREATE, XATTR_REPLACE, kind};
use crate::xattrs::{Reading, Writing};
use bytes::Bytes;
use vfs::{ErrorKind, Result, Vfs, XattrMode};

impl<V: Vfs> Session<V> {
    /// Makes a fid by which the value of an attribute is read, or, without a name, the
    /// names of all of them.
    pub(super) async fn xattr(&self, number: u32, new_fid: u32, name: &[u8]) -> Result<Reply> {
        let fid = self.fid(number)?;
        let cx = context(fid.cred());
        let value = if name.is_empty() {
            list(&self.fs.xattrs(cx, fid.ino).await?)
        } else {
            self.fs.xattr(cx, fid.ino, name).await?
        };
        let reading = Reading::new(value, &self.xattr_room)?;
        let len = reading.len();
        self.fids.insert(new_fid, fid.with_role(Role::XattrRead(reading)))?;
        Ok(Reply::to(kind::XATTRWALK, 8).u64(len))
    }

    /// Turns a fid into one by which an attribute is written. It is set when the fid is
    /// clunked.
    pub(super) fn set_xattr(
        &self,
        number: u32,
        name: &[u8],
        size: u64,
        flags: u32,
    ) -> Result<Reply> {
        let fid = self.fid(number)?;
        if !matches!(fid.role, Role::Named) {
            return Err(ErrorKind::BadHandle.into());
        }
        if name.starts_with(b"system.posix_acl_") {
            return Err(ErrorKind::NotSupported.into());
        }
        let mode = match flags {
            0 => XattrMode::Either,
            XATTR_CREATE => XattrMode::Create,
            XATTR_REPLACE => XattrMode::Replace,
            _ => return Err(ErrorKind::Invalid.into()),
        };
        let writing = Writing::new(name, mode, size, &self.xattr_room)?;
        self.fids.replace(number, &fid, fid.with_role(Role::XattrWrite(writing)))?;
        Ok(Reply::to(kind::XATTRCREATE, 0))
    }
}

/// Names, each ended by a NUL, as `listxattr(2)` gives them.
fn list(names: &[Bytes]) -> Bytes {
    let mut list = Vec::with_capacity(names.iter().map(|name| name.len() + 1).sum());
    for name in names {
        list.extend_from_slice(name);
        list.push(0);
    }
    list.into()
}

//! Extended attributes.
//!
//! ACLs are refused: the kernel would keep them without enforcing them, and an access
//! list that restricts nobody is worse than none.

use super::{Caller, Core};
use bytes::Bytes;
use vfs::{ErrorKind, Ino, Result, Vfs, XattrMode};

impl<V: Vfs> Core<V> {
    pub(crate) async fn xattr(&self, who: &Caller, ino: u64, name: &[u8]) -> Result<Bytes> {
        self.fs.xattr(who.context(), Ino::new(ino)?, name).await
    }

    /// All names, each ended by a NUL, as `listxattr(2)` gives them.
    pub(crate) async fn xattrs(&self, who: &Caller, ino: u64) -> Result<Bytes> {
        let names = self.fs.xattrs(who.context(), Ino::new(ino)?).await?;
        let mut list = Vec::with_capacity(names.iter().map(|name| name.len() + 1).sum());
        for name in names {
            list.extend_from_slice(&name);
            list.push(0);
        }
        Ok(list.into())
    }

    pub(crate) async fn set_xattr(
        &self,
        who: &Caller,
        ino: u64,
        name: &[u8],
        value: Bytes,
        flags: i32,
    ) -> Result<()> {
        if name.starts_with(b"system.posix_acl_") {
            return Err(ErrorKind::NotSupported.into());
        }
        let mode = match flags {
            0 => XattrMode::Either,
            libc::XATTR_CREATE => XattrMode::Create,
            libc::XATTR_REPLACE => XattrMode::Replace,
            _ => return Err(ErrorKind::Invalid.into()),
        };
        self.fs.set_xattr(who.context(), Ino::new(ino)?, name, Some(value), mode).await
    }

    pub(crate) async fn remove_xattr(&self, who: &Caller, ino: u64, name: &[u8]) -> Result<()> {
        let mode = XattrMode::Replace;
        self.fs.set_xattr(who.context(), Ino::new(ino)?, name, None, mode).await
    }
}

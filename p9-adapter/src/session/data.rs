//! Reading, writing, syncing and letting go.

use super::{Session, at, broken_contract, context};
use crate::fids::{Fid, Opened, Role};
use crate::wire::{Reply, kind};
use bytes::Bytes;
use vfs::{At, ErrorKind, Kind, Result, Scope, Segments, Stability, Vfs, WriteAt};

impl<V: Vfs> Session<V> {
    pub(super) async fn read(&self, number: u32, offset: u64, count: u32) -> Result<Reply> {
        let fid = self.fid(number)?;
        let count = count.min(self.data_max());
        let data = match &fid.role {
            Role::Open(opened) => self.read_file(&fid, opened, offset, count).await?,
            Role::XattrRead(value) => value.read(offset, count).into(),
            Role::Named | Role::XattrWrite(_) => return Err(ErrorKind::BadHandle.into()),
        };
        Ok(Reply::to(kind::READ, 4).data(data))
    }

    /// Reads as much as was asked for: what is short is taken for the end of the file.
    async fn read_file(
        &self,
        fid: &Fid<V::Handle>,
        opened: &Opened<V::Handle>,
        offset: u64,
        count: u32,
    ) -> Result<Segments> {
        let (cx, file) = (context(fid.cred()), At::Open(&opened.handle));
        let step_max = self.limits.read_max.max(1);
        let first = self.fs.read(cx, file, offset, count.min(step_max)).await?;
        let (mut data, mut eof) = (first.data, first.eof);
        let mut len = data.len();
        while !eof && len < count as usize {
            let step = (count - len as u32).min(step_max);
            let next_at = offset.checked_add(len as u64).ok_or(ErrorKind::Invalid)?;
            let next = self.fs.read(cx, file, next_at, step).await?;
            let step_len = next.data.len();
            next.data.as_slices().iter().for_each(|slice| data.push(slice.clone()));
            len += step_len;
            eof = next.eof || step_len == 0;
        }
        if len > count as usize {
            return Err(broken_contract("a read was longer than asked"));
        }
        Ok(data)
    }

    pub(super) async fn write(&self, number: u32, offset: u64, data: Bytes) -> Result<Reply> {
        let fid = self.fid(number)?;
        let len = u32::try_from(data.len()).map_err(|_| ErrorKind::Invalid)?;
        match &fid.role {
            Role::Open(opened) => self.write_file(&fid, opened, offset, data).await?,
            Role::XattrWrite(value) => value.write(offset, &data)?,
            Role::Named | Role::XattrRead(_) => return Err(ErrorKind::BadHandle.into()),
        }
        Ok(Reply::to(kind::WRITE, 4).u32(len))
    }

    async fn write_file(
        &self,
        fid: &Fid<V::Handle>,
        opened: &Opened<V::Handle>,
        mut offset: u64,
        data: Bytes,
    ) -> Result<()> {
        let cx = context(fid.cred());
        let mut rest = data;
        loop {
            let step = rest.split_to(rest.len().min(self.limits.write_max.max(1) as usize));
            let step_len = step.len() as u64;
            let place = if opened.appends { WriteAt::End } else { WriteAt::Offset(offset) };
            let (file, data) = (At::Open(&opened.handle), Segments::from(step));
            let written = self.fs.write(cx, file, place, data, opened.stability).await?;
            if u64::from(written.count) != step_len {
                return Err(broken_contract("a write was short"));
            }
            if rest.is_empty() {
                return Ok(());
            }
            offset = offset.checked_add(step_len).ok_or(ErrorKind::FileTooBig)?;
        }
    }

    pub(super) async fn sync(&self, number: u32, data_only: bool) -> Result<Reply> {
        let fid = self.fid(number)?;
        let scope = match fid.kind {
            Kind::Directory => Scope::Directory(fid.ino),
            _ => Scope::Range { file: at(&fid), offset: 0, len: 0, data_only },
        };
        let stability = self.export.fsync.max(Stability::Journaled);
        // It may take the thread for as long as a disk takes, and whoever read the request
        // reads the next; several are saved as one then.
        tokio::task::yield_now().await;
        self.fs.sync(context(fid.cred()), scope, stability).await?;
        Ok(Reply::to(kind::FSYNC, 0))
    }

    /// Lets go of a fid, which is gone whatever comes of it. An attribute that was
    /// written is set now. What failed of earlier writes is not told here: Linux does not
    /// look, and the next `Tfsync` would find nothing left to tell.
    pub(super) async fn clunk(&self, number: u32) -> Result<Reply> {
        let fid = self.fids.remove(number)?;
        self.release_locks(number, &fid).await;
        if let Role::XattrWrite(value) = &fid.role {
            let (cx, new) = (context(fid.cred()), value.finish()?);
            self.fs.set_xattr(cx, fid.ino, &value.name, new, value.mode).await?;
        }
        Ok(Reply::to(kind::CLUNK, 0))
    }
}

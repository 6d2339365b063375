//! File data.

use super::Procedure;
use super::wire::{POST_OP_LEN, WCC_LEN};
use crate::core::{Ask, Core, OK, Target, broken_contract, now};
use crate::dispatch::Answer;
use crate::rpc::accept;
use crate::xdr::{Decoded, Decoder, Malformed};
use bytes::Bytes;
use vfs::{At, ReadData, Result, Scope, Segments, Stability, Vfs, WriteAt, WriteVerifier, Written};

/// Values of `stable_how`.
const UNSTABLE: u32 = 0;
const DATA_SYNC: u32 = 1;
const FILE_SYNC: u32 = 2;

/// What a write is asked to do, less its data.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriteArguments {
    offset: u64,
    len: u32,
    stable: bool,
}

impl WriteArguments {
    /// Takes everything up to the data off. The data is there, all of it.
    pub(super) fn decode(args: &mut Decoder<'_>) -> Decoded<Self> {
        let (offset, len) = (args.u64()?, args.u32()?);
        let stable = match args.u32()? {
            UNSTABLE => false,
            DATA_SYNC | FILE_SYNC => true,
            _ => return Err(Malformed),
        };
        let mut data = *args;
        // What follows would be kept in memory with the data.
        if data.opaque(usize::MAX)?.len() != len as usize || !data.rest().is_empty() {
            return Err(Malformed);
        }
        args.u32()?;
        Ok(Self { offset, len, stable })
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }
}

impl<V: Vfs> Core<V> {
    pub(super) async fn read(&self, ask: &Ask, file: Target, offset: u64, len: u32) -> Answer {
        let began = now();
        let read = self.read_at(ask, file, offset, len).await;
        self.reads.note(began);
        let attr = self.attr_of(ask, file).await;
        let mut out = accept(ask.xid, 4 + POST_OP_LEN + 12);
        match read {
            Ok(read) => {
                out.u32(OK);
                self.put_post_op(&mut out, attr.as_ref());
                // No more than was asked for, which fits.
                let count = read.data.len() as u32;
                out.u32(count);
                out.bool(read.eof);
                out.u32(count);
                Answer { head: out, data: read.data }
            }
            Err(error) => {
                out.u32(self.report(Procedure::Read, file, &error));
                self.put_post_op(&mut out, attr.as_ref());
                out.into()
            }
        }
    }

    async fn read_at(&self, ask: &Ask, file: Target, offset: u64, len: u32) -> Result<ReadData> {
        let read = self.fs.read(ask.context(), At::Ino(file?), offset, len).await?;
        if read.data.len() > len as usize {
            return Err(broken_contract("a read was longer than asked"));
        }
        Ok(read)
    }

    pub(super) async fn write(
        &self,
        ask: &Ask,
        file: Target,
        arguments: WriteArguments,
        data: Bytes,
    ) -> Answer {
        let written = self.write_at(ask, file, arguments, data).await;
        let mut out = accept(ask.xid, 4 + WCC_LEN + 16);
        match written {
            Ok(written) => {
                out.u32(OK);
                self.put_wcc(&mut out, &written.wcc);
                out.u32(written.count);
                let is_safe = written.stability >= self.export.fsync;
                out.u32(if is_safe { FILE_SYNC } else { UNSTABLE });
                out.u64(written.verifier.0);
            }
            Err(error) => {
                out.u32(self.report(Procedure::Write, file, &error));
                self.put_wcc_after(&mut out, self.attr_of(ask, file).await.as_ref());
            }
        }
        out.into()
    }

    async fn write_at(
        &self,
        ask: &Ask,
        file: Target,
        arguments: WriteArguments,
        mut data: Bytes,
    ) -> Result<Written> {
        self.may_change()?;
        // Whoever ignores what it was told gets less written, and is told so.
        data.truncate(self.write_max() as usize);
        let len = data.len();
        let stability = if arguments.stable { self.export.fsync } else { Stability::Buffered };
        let (at, place) = (At::Ino(file?), WriteAt::Offset(arguments.offset));
        let data = Segments::from(data);
        let write = self.fs.write(ask.context(), at, place, data, stability);
        let written = if arguments.stable { self.saving(write).await? } else { write.await? };
        if written.count as usize != len || written.stability < stability {
            return Err(broken_contract("a write was short or less safe than asked"));
        }
        Ok(written)
    }

    pub(super) async fn commit(&self, ask: &Ask, file: Target, offset: u64, len: u32) -> Answer {
        let synced = self.sync(ask, file, offset, len).await;
        let attr = self.attr_of(ask, file).await;
        let mut out = accept(ask.xid, 4 + WCC_LEN + 8);
        match synced {
            Ok(verifier) => {
                out.u32(OK);
                self.put_wcc_after(&mut out, attr.as_ref());
                out.u64(verifier.0);
            }
            Err(error) => {
                out.u32(self.report(Procedure::Commit, file, &error));
                self.put_wcc_after(&mut out, attr.as_ref());
            }
        }
        out.into()
    }

    async fn sync(&self, ask: &Ask, file: Target, offset: u64, len: u32) -> Result<WriteVerifier> {
        let file = At::Ino(file?);
        let scope = Scope::Range { file, offset, len: len.into(), data_only: false };
        self.saving(self.fs.sync(ask.context(), scope, self.export.fsync)).await
    }
}

#[cfg(test)]
mod tests {
    use super::WriteArguments;
    use crate::xdr::{Decoder, Encoder};

    fn arguments(len: u32, stable: u32, data: &[u8]) -> Vec<u8> {
        let mut args = Encoder::default();
        args.u64(7);
        args.u32(len);
        args.u32(stable);
        args.opaque(data);
        args.into_vec()
    }

    #[test]
    fn the_data_of_a_write_is_as_long_as_it_says() {
        let decode = |bytes: &[u8]| {
            let mut args = Decoder::new(bytes);
            let decoded = WriteArguments::decode(&mut args);
            decoded.map(|arguments| (arguments.len(), arguments.stable, args.rest().len()))
        };
        assert_eq!(decode(&arguments(5, 0, b"hello")), Ok((5, false, 8)));
        assert_eq!(decode(&arguments(5, 2, b"hello")), Ok((5, true, 8)));
        assert!(decode(&arguments(4, 0, b"hello")).is_err());
        assert!(decode(&arguments(6, 0, b"hello")).is_err());
        assert!(decode(&arguments(5, 3, b"hello")).is_err());
        let whole = arguments(5, 0, b"hello");
        assert!(decode(&whole[..whole.len() - 4]).is_err(), "cut off");
    }
}

//! The whole: how much room there is, and what may be asked for.

use super::Procedure;
use super::wire::POST_OP_LEN;
use crate::core::{Ask, Core, OK, Target};
use crate::dispatch::Answer;
use crate::rpc::accept;
use crate::xdr::Encoder;
use vfs::{Attr, Result, Vfs, VolumeStat};

/// Reads and writes of whole pages are cheapest, bytes.
const MULTIPLE: u32 = 4096;
/// Bytes of a listing that are asked for at once.
const LISTING: u32 = 64 << 10;
/// There are hard links, symbolic links, the same answers for every file of the volume,
/// and times can be set.
const PROPERTIES: u32 = 1 | 2 | 8 | 0x10;

impl<V: Vfs> Core<V> {
    pub(super) async fn stat_volume(&self, ask: &Ask, file: Target) -> Answer {
        let stat = async {
            let attr = self.entry(ask, file).await?.attr;
            Ok((attr, self.fs.statfs(ask.context()).await?))
        };
        let stat: Result<(Attr, VolumeStat)> = stat.await;
        self.about(Procedure::StatVolume, ask, file, stat, |out, stat| {
            for bytes in [stat.bytes_total, stat.bytes_free, stat.bytes_free] {
                out.u64(bytes);
            }
            for inodes in [stat.inodes_total, stat.inodes_free, stat.inodes_free] {
                out.u64(inodes);
            }
            // It may change at any time.
            out.u32(0);
        })
        .await
    }

    pub(super) async fn volume_info(&self, ask: &Ask, file: Target) -> Answer {
        let found = self.entry(ask, file).await.map(|entry| (entry.attr, ()));
        self.about(Procedure::VolumeInfo, ask, file, found, |out, ()| {
            // The largest are the preferred, because each costs a round trip.
            for size in [self.read_max(), self.read_max(), MULTIPLE] {
                out.u32(size);
            }
            for size in [self.write_max(), self.write_max(), MULTIPLE] {
                out.u32(size);
            }
            out.u32(LISTING);
            out.u64(self.limits.file_size_max);
            // Times are exact to the nanosecond.
            out.u32(0);
            out.u32(1);
            out.u32(PROPERTIES);
        })
        .await
    }

    pub(super) async fn path_conf(&self, ask: &Ask, file: Target) -> Answer {
        let found = self.entry(ask, file).await.map(|entry| (entry.attr, ()));
        self.about(Procedure::PathConf, ask, file, found, |out, ()| {
            out.u32(self.limits.link_max);
            out.u32(self.limits.name_max);
            // Long names are refused, only root gives files away, names are bytes.
            for is_so in [true, true, false, true] {
                out.bool(is_so);
            }
        })
        .await
    }

    async fn about<T>(
        &self,
        procedure: Procedure,
        ask: &Ask,
        file: Target,
        found: Result<(Attr, T)>,
        put: impl FnOnce(&mut Encoder, T),
    ) -> Answer {
        let mut out = accept(ask.xid, 4 + POST_OP_LEN + 64);
        match found {
            Ok((attr, what)) => {
                out.u32(OK);
                self.put_post_op(&mut out, Some(&attr));
                put(&mut out, what);
            }
            Err(error) => {
                out.u32(self.report(procedure, file, &error));
                self.put_post_op(&mut out, self.attr_of(ask, file).await.as_ref());
            }
        }
        out.into()
    }
}

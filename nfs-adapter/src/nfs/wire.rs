//! Attributes as the protocol writes them, and takes them.

use crate::core::Core;
use crate::xdr::{Decoded, Decoder, Encoder, Malformed};
use vfs::{Attr, Ino, Kind, SetAttr, SetTime, Timestamp, Wcc};

/// Bytes of attributes.
pub(super) const ATTR_LEN: usize = 84;
/// Bytes of attributes that may be absent.
pub(super) const POST_OP_LEN: usize = 4 + ATTR_LEN;
/// Bytes of what is told about an inode before and after.
pub(super) const WCC_LEN: usize = 4 + 24 + POST_OP_LEN;

const NANOSECONDS: u32 = 1_000_000_000;

/// The number of a kind.
fn kind_number(kind: Kind) -> u32 {
    match kind {
        Kind::Regular => 1,
        Kind::Directory => 2,
        Kind::BlockDevice { .. } => 3,
        Kind::CharDevice { .. } => 4,
        Kind::Symlink => 5,
        Kind::Socket => 6,
        Kind::Fifo => 7,
    }
}

/// Times have unsigned seconds of 32 bits; what lies outside becomes the nearest.
fn put_time(out: &mut Encoder, time: Timestamp) {
    let (seconds, nanoseconds) = match u32::try_from(time.seconds) {
        Ok(seconds) => (seconds, time.nanoseconds),
        Err(_) if time.seconds < 0 => (0, 0),
        Err(_) => (u32::MAX, NANOSECONDS - 1),
    };
    out.u32(seconds);
    out.u32(nanoseconds);
}

/// A time in the arguments.
pub(super) fn time(args: &mut Decoder<'_>) -> Decoded<Timestamp> {
    let (seconds, nanoseconds) = (args.u32()?, args.u32()?);
    if nanoseconds >= NANOSECONDS {
        return Err(Malformed);
    }
    Ok(Timestamp { seconds: seconds.into(), nanoseconds })
}

fn set_time(args: &mut Decoder<'_>) -> Decoded<Option<SetTime>> {
    match args.u32()? {
        0 => Ok(None),
        1 => Ok(Some(SetTime::Now)),
        2 => Ok(Some(SetTime::To(time(args)?))),
        _ => Err(Malformed),
    }
}

fn optional<'a, T>(
    args: &mut Decoder<'a>,
    value: impl FnOnce(&mut Decoder<'a>) -> Decoded<T>,
) -> Decoded<Option<T>> {
    if args.bool()? { value(args).map(Some) } else { Ok(None) }
}

/// Attributes to be set (`sattr3`).
pub(super) fn set_attr(args: &mut Decoder<'_>) -> Decoded<SetAttr> {
    let mode = optional(args, Decoder::u32)?;
    Ok(SetAttr {
        mode: mode.map(|mode| (mode & 0o7777) as u16),
        uid: optional(args, Decoder::u32)?,
        gid: optional(args, Decoder::u32)?,
        size: optional(args, Decoder::u64)?,
        atime: set_time(args)?,
        mtime: set_time(args)?,
        only_if_ctime: None,
    })
}

impl<V: vfs::Vfs> Core<V> {
    /// Attributes (`fattr3`).
    pub(super) fn put_attr(&self, out: &mut Encoder, attr: &Attr) {
        for word in [kind_number(attr.kind), attr.mode.into(), attr.nlink, attr.uid, attr.gid] {
            out.u32(word);
        }
        out.u64(attr.size);
        out.u64(attr.used);
        let (major, minor) = match attr.kind {
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                (major, minor)
            }
            _ => (0, 0),
        };
        out.u32(major);
        out.u32(minor);
        out.u64(self.fsid);
        out.u64(attr.ino.get());
        for time in [attr.atime, attr.mtime, attr.ctime] {
            put_time(out, time);
        }
    }

    /// Attributes after an operation, if they are known (`post_op_attr`).
    pub(super) fn put_post_op(&self, out: &mut Encoder, attr: Option<&Attr>) {
        out.bool(attr.is_some());
        if let Some(attr) = attr {
            self.put_attr(out, attr);
        }
    }

    /// An inode before and after an operation (`wcc_data`).
    pub(super) fn put_wcc(&self, out: &mut Encoder, wcc: &Wcc) {
        out.bool(true);
        out.u64(wcc.before_size);
        put_time(out, wcc.before_mtime);
        put_time(out, wcc.before_ctime);
        self.put_post_op(out, Some(&wcc.after));
    }

    /// The same when only the state after it is known, or nothing.
    pub(super) fn put_wcc_after(&self, out: &mut Encoder, after: Option<&Attr>) {
        out.bool(false);
        self.put_post_op(out, after);
    }

    /// A handle (`nfs_fh3`).
    pub(super) fn put_handle(&self, out: &mut Encoder, ino: Ino) {
        out.opaque(&self.handles.handle(ino));
    }
}

#[cfg(test)]
mod tests {
    use super::{put_time, set_attr};
    use crate::xdr::{Decoder, Encoder};
    use proptest::prelude::*;
    use vfs::{SetTime, Timestamp};

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn times_that_do_not_fit_become_the_nearest_that_do() {
        let put = |seconds, nanoseconds| {
            let mut out = Encoder::default();
            put_time(&mut out, Timestamp { seconds, nanoseconds });
            out.into_vec()
        };
        assert_eq!(put(5, 6), words(&[5, 6]));
        assert_eq!(put(-1, 6), words(&[0, 0]));
        assert_eq!(put(u32::MAX.into(), 6), words(&[u32::MAX, 6]));
        assert_eq!(put(1 << 33, 6), words(&[u32::MAX, 999_999_999]));
    }

    #[test]
    fn attributes_to_be_set_are_those_that_are_named() {
        let bytes = words(&[1, 0o104_755, 0, 1, 7, 1, 0, 9, 1, 2, 5, 6]);
        let set = set_attr(&mut Decoder::new(&bytes)).unwrap();
        assert_eq!((set.mode, set.uid, set.gid, set.size), (Some(0o4755), None, Some(7), Some(9)));
        let time = SetTime::To(Timestamp { seconds: 5, nanoseconds: 6 });
        assert_eq!((set.atime, set.mtime), (Some(SetTime::Now), Some(time)));
        let bad = [
            words(&[2]),
            words(&[0, 0, 0, 0, 3, 0]),
            words(&[0, 0, 0, 0, 2, 5, 1_000_000_000, 0]),
            words(&[0, 0, 0, 0, 0]),
        ];
        for bytes in bad {
            assert!(set_attr(&mut Decoder::new(&bytes)).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_words_are_attributes_or_an_error(bytes in prop::collection::vec(0_u32..4, 0..16)) {
            let _ = set_attr(&mut Decoder::new(&words(&bytes)));
        }
    }
}

//! Tables for every conversion.

use super::*;
use std::num::NonZeroU64;
use vfs::Ino;

fn attr(kind: Kind) -> Attr {
    let time = |seconds, nanoseconds| Timestamp { seconds, nanoseconds };
    Attr {
        ino: Ino(NonZeroU64::new(42).unwrap()),
        kind,
        mode: 0o4755,
        nlink: 3,
        uid: 1000,
        gid: 100,
        size: 1025,
        used: 1025,
        atime: time(1, 2),
        mtime: time(-1, 250_000_000),
        ctime: time(i64::from(u32::MAX) + 5, 999_999_999),
        btime: time(0, 0),
        change: 9,
    }
}

#[test]
fn attributes_keep_every_field() {
    let out = file_attr(&attr(Kind::Regular), 131_072);
    assert_eq!((out.ino, out.size, out.nlink, out.uid, out.gid), (42, 1025, 3, 1000, 100));
    assert_eq!(out.blocks, 3, "1025 bytes touch three sectors");
    assert_eq!(out.mode, libc::S_IFREG | 0o4755);
    assert_eq!(out.blksize, 131_072);
    assert_eq!((out.atime, out.mtime), ((1, 2), (-1, 250_000_000)));
    assert_eq!(out.ctime, (4_294_967_300, 999_999_999));
}

#[test]
fn device_numbers_match_the_c_library() {
    for (major, minor) in [(1, 3), (8, 0), (253, 1), (0xfff, 0xf_ffff), (10, 229), (259, 0x1_2345)]
    {
        let rdev = encode_device(major, minor);
        // The C library's wider number agrees wherever both can hold it.
        assert_eq!(u64::from(rdev), libc::makedev(major, minor), "{major}:{minor}");
        assert_eq!(decode_device(rdev), (major, minor));
        let kind = Kind::BlockDevice { major, minor };
        assert_eq!(node_kind(libc::S_IFBLK | 0o600, rdev).unwrap(), kind);
        assert_eq!(file_type(kind), (libc::S_IFBLK, rdev));
    }
    assert_eq!(node_kind(0o644, 0).unwrap(), Kind::Regular);
    assert_eq!(node_kind(libc::S_IFDIR, 0).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn block_sizes_are_powers_of_two_within_bounds() {
    for (preferred, expected) in
        [(0, 4096), (4096, 4096), (100_000, 65_536), (131_072, 131_072), (u32::MAX, 1 << 20)]
    {
        assert_eq!(block_size(preferred), expected);
    }
}

#[test]
fn open_flags_follow_the_access_mode() {
    let of = |flags, writeback| {
        let OpenFlags { read, write, truncate } = open_flags(flags, writeback);
        (read, write, truncate)
    };
    assert_eq!(of(libc::O_RDONLY, false), (true, false, false));
    assert_eq!(of(libc::O_RDONLY | libc::O_TRUNC, false), (true, false, true));
    assert_eq!(of(libc::O_WRONLY | libc::O_APPEND, false), (false, true, false));
    assert_eq!(of(libc::O_RDWR | libc::O_TRUNC, false), (true, true, true));
    assert_eq!(of(libc::O_WRONLY, true), (true, true, false), "the kernel reads pages");
}

#[test]
fn flags_that_are_not_known_are_refused() {
    assert_eq!(rename_mode(0).unwrap(), RenameMode::Replace);
    assert_eq!(rename_mode(libc::RENAME_NOREPLACE).unwrap(), RenameMode::NoReplace);
    assert_eq!(rename_mode(libc::RENAME_EXCHANGE).unwrap(), RenameMode::Exchange);
    for flags in [libc::RENAME_WHITEOUT, libc::RENAME_WHITEOUT | libc::RENAME_NOREPLACE, 1 << 9] {
        assert_eq!(rename_mode(flags).unwrap_err().kind(), ErrorKind::Invalid);
    }
    let punch = libc::FALLOC_FL_PUNCH_HOLE;
    let keep = libc::FALLOC_FL_KEEP_SIZE;
    assert_eq!(allocation(punch | keep).unwrap(), Allocate::PunchHole);
    assert_eq!(allocation(keep).unwrap(), Allocate::Reserve { keep_size: true });
    let zero = libc::FALLOC_FL_ZERO_RANGE;
    assert_eq!(allocation(zero | keep).unwrap(), Allocate::Zero { keep_size: true });
    for mode in [punch, libc::FALLOC_FL_COLLAPSE_RANGE, libc::FALLOC_FL_INSERT_RANGE, 0x40] {
        assert_eq!(allocation(mode).unwrap_err().kind(), ErrorKind::NotSupported);
    }
    assert_eq!(seek_to(libc::SEEK_HOLE).unwrap(), SeekTo::Hole);
    assert_eq!(seek_to(libc::SEEK_END).unwrap_err().kind(), ErrorKind::Invalid);
}

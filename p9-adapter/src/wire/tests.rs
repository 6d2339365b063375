//! What is decoded, and what is refused.

use super::{ClaimedLock, Message, Qid, Reply, Request, entry_type, file_type, kind, node_kind};
use bytes::Bytes;
use proptest::prelude::*;
use vfs::{Attr, ErrorKind, Ino, Kind, Segments, Timestamp};

fn message(kind: u8, fields: &[u8]) -> Message {
    Message { kind, tag: 1, fields: Bytes::copy_from_slice(fields) }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_le_bytes()[..], bytes].concat()
}

fn u32s(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn u64s(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// One message of every kind that has fields, as the wire has it.
fn samples() -> Vec<(u8, Vec<u8>)> {
    let name = string(b"na\xffme");
    let lock = [u64s(&[3, 4]), u32s(&[5]), string(b"host")].concat();
    let walk = [u32s(&[1, 2]), vec![2, 0], name.clone(), string(b"..")].concat();
    vec![
        (kind::VERSION, [u32s(&[8192]), string(b"9P2000.L")].concat()),
        (kind::AUTH, [u32s(&[1]), name.clone(), name.clone(), u32s(&[0])].concat()),
        (kind::ATTACH, [u32s(&[1, 2]), name.clone(), name.clone(), u32s(&[0])].concat()),
        (kind::FLUSH, vec![7, 0]),
        (kind::WALK, walk),
        (kind::LOPEN, u32s(&[1, 2])),
        (kind::LCREATE, [u32s(&[1]), name.clone(), u32s(&[2, 3, 4])].concat()),
        (kind::READ, [u32s(&[1]), u64s(&[2]), u32s(&[3])].concat()),
        (kind::WRITE, [u32s(&[1]), u64s(&[2]), u32s(&[4]), b"data".to_vec()].concat()),
        (kind::CLUNK, u32s(&[1])),
        (kind::REMOVE, u32s(&[1])),
        (kind::GETATTR, [u32s(&[1]), u64s(&[0x7ff])].concat()),
        (kind::SETATTR, [u32s(&[1, 2, 3, 4, 5]), u64s(&[6, 7, 8, 9, 10])].concat()),
        (kind::READDIR, [u32s(&[1]), u64s(&[2]), u32s(&[3])].concat()),
        (kind::XATTRWALK, [u32s(&[1, 2]), name.clone()].concat()),
        (kind::XATTRCREATE, [u32s(&[1]), name.clone(), u64s(&[2]), u32s(&[3])].concat()),
        (kind::SYMLINK, [u32s(&[1]), name.clone(), string(b"target"), u32s(&[2])].concat()),
        (kind::MKNOD, [u32s(&[1]), name.clone(), u32s(&[2, 3, 4, 5])].concat()),
        (kind::MKDIR, [u32s(&[1]), name.clone(), u32s(&[2, 3])].concat()),
        (kind::LINK, [u32s(&[1, 2]), name.clone()].concat()),
        (kind::RENAME, [u32s(&[1, 2]), name.clone()].concat()),
        (kind::RENAMEAT, [u32s(&[1]), name.clone(), u32s(&[2]), string(b"b")].concat()),
        (kind::UNLINKAT, [u32s(&[1]), name, u32s(&[0x200])].concat()),
        (kind::READLINK, u32s(&[1])),
        (kind::FSYNC, u32s(&[1, 1])),
        (kind::STATFS, u32s(&[1])),
        (kind::LOCK, [u32s(&[1]), vec![1], u32s(&[1]), lock.clone()].concat()),
        (kind::GETLOCK, [u32s(&[1]), vec![1], lock].concat()),
    ]
}

#[test]
fn fields_are_where_they_belong() {
    let of = |sample: u8| {
        let (_, fields) = samples().into_iter().find(|(kind, _)| *kind == sample).unwrap();
        Request::of(message(sample, &fields)).unwrap()
    };
    let name = || Bytes::from_static(b"na\xffme");
    let expected = Request::Create { fid: 1, name: name(), flags: 2, mode: 3, gid: 4 };
    assert_eq!(of(kind::LCREATE), expected);
    let names = vec![name(), Bytes::from_static(b"..")];
    assert_eq!(of(kind::WALK), Request::Walk { fid: 1, new_fid: 2, names });
    let data = Bytes::from_static(b"data");
    assert_eq!(of(kind::WRITE), Request::Write { fid: 1, offset: 2, data });
    let machine = Bytes::from_static(b"host");
    let lock = ClaimedLock { fid: 1, kind: 1, start: 3, len: 4, process: 5, machine };
    assert_eq!(of(kind::LOCK), Request::Lock(lock.clone()));
    assert_eq!(of(kind::GETLOCK), Request::GetLock(lock));
    let Request::SetAttr(set) = of(kind::SETATTR) else { panic!("no change of attributes") };
    assert_eq!((set.valid, set.gid, set.atime, set.mtime), (2, 5, (7, 8), (9, 10)));
    assert_eq!(of(kind::FSYNC), Request::Sync { fid: 1, data_only: true });
    let old = Request::of(message(kind::FSYNC, &u32s(&[1]))).unwrap();
    assert_eq!(old, Request::Sync { fid: 1, data_only: false });
}

#[test]
fn nothing_may_be_missing_or_left_over() {
    for (kind, fields) in samples() {
        assert!(Request::of(message(kind, &fields)).is_ok(), "message {kind}");
        for len in 0..fields.len() {
            let cut = Request::of(message(kind, &fields[..len]));
            let is_older = kind == kind::FSYNC && len == 4;
            assert_eq!(cut.is_ok(), is_older, "message {kind}, {len} bytes of it");
        }
        let longer = [&fields[..], &[0]].concat();
        let error = Request::of(message(kind, &longer)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "message {kind}");
    }
}

#[test]
fn what_is_not_known_is_not_supported() {
    for kind in [0, 6, 7, 9, 13, 101, 106, 255] {
        let error = Request::of(message(kind, &[])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotSupported, "message {kind}");
    }
}

#[test]
fn walks_and_writes_claim_no_more_than_there_is() {
    let far = [u32s(&[1, 2]), vec![17, 0], string(b"a").repeat(17)].concat();
    assert!(Request::of(message(kind::WALK, &far)).is_err());
    let long = [u32s(&[1]), u64s(&[0]), u32s(&[u32::MAX]), vec![0; 9]].concat();
    assert!(Request::of(message(kind::WRITE, &long)).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_understood_or_refused(kind: u8, fields: Vec<u8>) {
        let _ = Request::of(message(kind, &fields));
    }

    #[test]
    fn damaged_messages_are_understood_or_refused(
        index in 0_usize..28,
        at in 0_usize..64,
        by: u8,
        len in 0_usize..80,
    ) {
        let (kind, mut fields) = samples().swap_remove(index);
        fields.truncate(len);
        if let Some(byte) = fields.get_mut(at) {
            *byte ^= by;
        }
        let _ = Request::of(message(kind, &fields));
    }

    #[test]
    fn messages_are_as_long_as_they_say(bytes: Vec<u8>) {
        let is_whole = bytes.len() >= 7
            && bytes[..4] == (bytes.len() as u32).to_le_bytes();
        prop_assert_eq!(Message::of(bytes.into()).is_some(), is_whole);
    }
}

fn attr(kind: Kind) -> Attr {
    let time = |seconds| Timestamp { seconds, nanoseconds: 9 };
    Attr {
        ino: Ino::new(77).unwrap(),
        kind,
        mode: 0o4755,
        nlink: 2,
        uid: 3,
        gid: 4,
        size: 5,
        used: 513,
        atime: time(-1),
        mtime: time(2),
        ctime: time(3),
        btime: time(4),
        change: 99,
    }
}

#[test]
fn attributes_lie_as_linux_reads_them() {
    let mut reply = Reply::to(kind::GETATTR, 160).attr(&attr(Kind::Regular), 65_536);
    reply.address(0x0102);
    let (fields, data) = reply.parts();
    assert!(data.is_empty());
    let expected = [
        u32s(&[160]),
        vec![25, 2, 1],
        u64s(&[0x3fff]),
        vec![0],
        u32s(&[0]),
        u64s(&[77]),
        u32s(&[0o104_755, 3, 4]),
        u64s(&[2, 0, 5, 65_536, 2]),
        u64s(&[u64::MAX, 9, 2, 9, 3, 9, 4, 9]),
        u64s(&[0, 99]),
    ];
    assert_eq!(fields, expected.concat());
}

#[test]
fn data_is_counted_and_stays_where_it_is() {
    let parts = vec![Bytes::from_static(b"ab"), Bytes::from_static(b"cde")];
    let mut reply = Reply::to(kind::READ, 4).data(Segments::from(parts));
    reply.address(3);
    let (fields, data) = reply.parts();
    assert_eq!(fields, [&u32s(&[16])[..], &[117, 3, 0], &u32s(&[5])].concat());
    assert_eq!(data.concat(), b"abcde");
}

#[test]
fn kinds_and_devices_are_linuxs() {
    let device = Kind::CharDevice { major: 0x123, minor: 0x4_5678 };
    assert_eq!(file_type(device), (0o020_000, 0x4561_2378));
    let nodes = [Kind::Regular, Kind::Fifo, Kind::Socket, device];
    for kind in nodes {
        assert_eq!(node_kind(file_type(kind).0, 0x123, 0x4_5678).unwrap(), kind);
    }
    for kind in [Kind::Directory, Kind::Symlink] {
        assert!(node_kind(file_type(kind).0, 0, 0).is_err(), "mknod makes no {kind:?}");
    }
    assert_eq!(entry_type(Kind::Directory), 4);
    assert_eq!(entry_type(Kind::Regular), 8);
    assert_eq!(Qid::new(Ino::ROOT, Kind::Directory), Qid { kind: 0x80, path: 1 });
    assert_eq!(Qid::new(Ino::ROOT, Kind::Symlink).kind, 2);
}

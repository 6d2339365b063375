//! Rows against damage. Their bytes as such are checked with the checkpoints.

use super::*;
use crate::codec::hostile::{whole, withstands};
use crate::ids::{BlockId, Hash};

fn time(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanoseconds: 999_999_999 }
}

fn encoded(inode: &Inode) -> Vec<u8> {
    let mut w = Writer::new();
    inode.encode(&mut w);
    w.into_vec()
}

fn inode(node: Node) -> Inode {
    let pairs = [(&b"user.a"[..], &b"1"[..]), (b"user.b", b"")];
    let pairs = pairs.map(|(name, value)| (Bytes::from(name), Bytes::from(value)));
    Inode {
        content: Content::Tree { depth: 5, root: BlockId([7; 32]) },
        xattrs: Arc::new(pairs.into()),
        ..Inode::new(node, 0o755, 1, 2, time(-1))
    }
}

#[test]
fn damaged_inodes_are_refused() {
    let nodes = [
        Node::Regular,
        Node::Directory,
        Node::Symlink(Bytes::from_static(b"../x")),
        Node::Fifo,
        Node::Socket,
        Node::CharDevice { major: 1, minor: 3 },
        Node::BlockDevice { major: 8, minor: 1 },
    ];
    for node in nodes {
        withstands(&encoded(&inode(node)), whole(Inode::decode), encoded);
    }
}

#[test]
fn attributes_ascend() {
    let decode = |names: [&[u8]; 2]| {
        let mut bytes = encoded(&Inode::new(Node::Regular, 0, 0, 0, time(0)));
        bytes.truncate(bytes.len() - 4);
        let mut w = Writer::onto(bytes);
        w.list(names, |w, name| {
            w.lp(name).lp(b"");
        });
        whole(Inode::decode)(w.as_slice())
    };
    assert!(decode([b"a", b"b"]).is_ok());
    assert!(decode([b"b", b"a"]).is_err());
    assert!(decode([b"a", b"a"]).is_err());
    assert!(decode([b"", b"a"]).is_err());
    assert!(decode([b"a", b"b\0"]).is_err());
}

#[test]
fn damaged_local_rows_are_refused() {
    let name = Bytes::from_static(b"name");
    let dent = Dent { link: LinkId([1; 16]), ino: 2, kind: 1, name };
    withstands(&dent.encode(), Dent::decode, Dent::encode);

    let pack = PackId([2; 16]);
    let info = PackInfo { pack, epoch: 3, size: 4, dir_hash: Hash([5; 32]) };
    for state in [PackState::Open, PackState::Closed, PackState::Uploaded, PackState::Announced] {
        let row = PackRow { state, info };
        withstands(&row.encode(), |bytes| PackRow::decode(pack, bytes), PackRow::encode);
    }

    let place = BlockPlace {
        pack,
        offset: 64,
        sealed_len: 100,
        plain_len: 72,
        epoch: 0,
        codec: 0,
        kind: 0x18,
    };
    withstands(&place.encode(), BlockPlace::decode, BlockPlace::encode);
}

//! Codecs of the log against vectors that another implementation made, both
//! ways, and against damage.

use super::object_name;
use super::op::{Content, Group, Node, Op};
use super::record::{CheckpointRef, Head, IncarnationRecord};
use super::segment::{Dep, Segment};
use crate::codec::hostile::{whole, withstands};
use crate::codec::{Reader, Result, Writer};
use crate::crypto::{Context, Key32, PublicKey, SignatureKind, SigningKey, envelope, names};
use crate::env::Env;
use crate::golden::{Vector, epoch_keys, ns, unhex, vectors};
use crate::ids::{BlockId, Hash, Hlc, Incarnation, LinkId, MachineId, PackId};
use bytes::Bytes;
use serde_json::Value;
use vfs::Timestamp;

fn time(vector: &Value, key: &str) -> Timestamp {
    let seconds = vector[key]["s"].as_i64().unwrap();
    Timestamp { seconds, nanoseconds: vector[key].small("ns") }
}

fn opt<T>(vector: &Value, key: &str, read: impl FnOnce(&Value, &str) -> T) -> Option<T> {
    (!vector[key].is_null()).then(|| read(vector, key))
}

fn mode(vector: &Value, key: &str) -> u16 {
    vector.number(key).try_into().unwrap()
}

fn bytes(vector: &Value, key: &str) -> Bytes {
    vector.bytes(key).into()
}

fn node(vector: &Value) -> Node {
    let numbers = || (vector.small("major"), vector.small("minor"));
    match vector.text("kind") {
        "regular" => Node::Regular,
        "directory" => Node::Directory,
        "symlink" => Node::Symlink(bytes(vector, "target")),
        "fifo" => Node::Fifo,
        "socket" => Node::Socket,
        "char" => {
            let (major, minor) = numbers();
            Node::CharDevice { major, minor }
        }
        "block" => {
            let (major, minor) = numbers();
            Node::BlockDevice { major, minor }
        }
        other => panic!("{other}"),
    }
}

fn content(vector: &Value) -> Content {
    match vector.text("form") {
        "zeros" => Content::Empty,
        "inline" => Content::Inline(bytes(vector, "bytes")),
        "blocks" => {
            let depth = vector.number("depth").try_into().unwrap();
            Content::Tree { depth, root: BlockId(vector.array("id")) }
        }
        other => panic!("{other}"),
    }
}

fn op(v: &Value) -> Op {
    let link = || LinkId(v.array("link"));
    let [ino, parent, size] = ["ino", "parent", "size"].map(|key| move || v.number(key));
    let name = || bytes(v, "name");
    match v.text("op") {
        "create" => Op::Create {
            link: link(),
            ino: ino(),
            parent: parent(),
            name: name(),
            node: node(&v["inode"]),
            mode: mode(v, "mode"),
            uid: v.small("uid"),
            gid: v.small("gid"),
            time: time(v, "time"),
        },
        "link" => {
            let time = time(v, "time");
            Op::Link { link: link(), ino: ino(), parent: parent(), name: name(), time }
        }
        "move" => {
            let replaced = |text: &Value| unhex(text.as_str().unwrap()).try_into().unwrap();
            Op::Move {
                link: link(),
                parent: parent(),
                name: name(),
                replaces: v.items("replaces").iter().map(|text| LinkId(replaced(text))).collect(),
                time: time(v, "time"),
            }
        }
        "remove" => Op::Remove { link: link(), time: time(v, "time") },
        "write" => Op::Write {
            ino: ino(),
            size: size(),
            used: v.number("used"),
            mtime: time(v, "mtime"),
            ctime: time(v, "ctime"),
            content: content(&v["content"]),
        },
        "setattr" => Op::SetAttr {
            ino: ino(),
            mode: opt(v, "mode", mode),
            uid: opt(v, "uid", Vector::small),
            gid: opt(v, "gid", Vector::small),
            atime: opt(v, "atime", time),
            mtime: opt(v, "mtime", time),
            ctime: time(v, "ctime"),
        },
        "setxattr" => Op::SetXattr {
            ino: ino(),
            name: name(),
            value: opt(v, "value", bytes),
            ctime: time(v, "ctime"),
        },
        "packadd" => Op::PackAdd {
            pack: PackId(v.array("pack_id")),
            epoch: v.small("epoch"),
            size: size(),
            dir_hash: Hash(v.array("dir_hash")),
        },
        other => panic!("{other}"),
    }
}

fn dep(vector: &Value) -> Dep {
    Dep {
        machine: machine(vector),
        incarnation: incarnation(vector),
        seq: vector.number("seq"),
        hash: Hash(vector.array("hash")),
    }
}

fn group(vector: &Value) -> Group {
    Group { hlc: hlc(vector, "hlc"), ops: vector.items("ops").iter().map(op).collect() }
}

fn machine(vector: &Value) -> MachineId {
    MachineId(vector.array("machine"))
}

fn incarnation(vector: &Value) -> Incarnation {
    Incarnation(vector.array("incarnation"))
}

fn hlc(vector: &Value, key: &str) -> Hlc {
    Hlc(vector.number(key))
}

fn segment() -> (&'static Value, Segment) {
    let v = &vectors()["segment"];
    let segment = Segment {
        namespace: ns(),
        epoch: v.small("epoch"),
        membership: Hash(v.array("membership_hash")),
        machine: machine(v),
        incarnation: incarnation(v),
        seq: v.number("seq"),
        previous: Hash(v.array("prev_hash")),
        ends_batch: v.number("flags") == 1,
        deps: v.items("deps").iter().map(dep).collect(),
        groups: v.items("groups").iter().map(group).collect(),
    };
    (v, segment)
}

fn head() -> (&'static Value, Head) {
    let v = &vectors()["head"];
    let at = &v["checkpoint"];
    let head = Head {
        namespace: ns(),
        machine: machine(v),
        counter: v.number("counter"),
        incarnation: incarnation(v),
        next_seq: v.number("next_seq"),
        last: Hash(v.array("last_hash")),
        hlc: hlc(v, "hlc"),
        checkpoint: Some(CheckpointRef {
            machine: machine(at),
            number: at.number("n"),
            root: BlockId(at.array("root")),
        }),
    };
    (v, head)
}

fn incarnation_record() -> (&'static Value, IncarnationRecord) {
    let v = &vectors()["incarnation"];
    let record = IncarnationRecord {
        namespace: ns(),
        machine: machine(v),
        index: v.small("index"),
        incarnation: incarnation(v),
        hlc: hlc(v, "hlc"),
        membership: Hash(v.array("membership_hash")),
    };
    (v, record)
}

/// Checks that `body` is signed and sealed to the vector's object, and that the
/// object opens to it.
fn check_object(vector: &Value, kind: SignatureKind, context: &Context, body: &[u8], name: &str) {
    assert_eq!(body, vector.bytes("body"));
    assert_eq!(object_name(name).as_str(), vector.text("name"));
    let signer = SigningKey::from_seed(Key32::copy_of(&vectors()["machine"].array("seed")));
    let mut signed = body.to_vec();
    signer.sign_onto(kind, &mut signed);
    assert_eq!(signed[body.len()..], vector.bytes("signature"));
    assert_eq!(blake3::hash(&signed).as_bytes()[..], vector.bytes("hash"));

    let keys = epoch_keys(vector.number("epoch"));
    let env = Env::repeating(&[vector.bytes("salt"), vector.bytes("nonce")].concat());
    let sealed = envelope::seal(&env, &keys, context, &signed).unwrap();
    assert_eq!(sealed, vector.bytes("bytes"));

    let opened = envelope::open([&epoch_keys(1), &epoch_keys(0)], context, &sealed).unwrap();
    let public = PublicKey::from_bytes(&vectors()["machine"].array("public")).unwrap();
    assert_eq!(public.verify_signed(kind, &opened.plaintext), Ok(body));
}

fn encode<T>(write: impl Fn(&T, &mut Writer)) -> impl Fn(&T) -> Vec<u8> {
    move |value| {
        let mut w = Writer::new();
        write(value, &mut w);
        w.into_vec()
    }
}

fn decode<T>(read: impl Fn(&mut Reader<'_>) -> Result<T>, bytes: &[u8]) -> T {
    whole(read)(bytes).unwrap()
}

#[test]
fn golden_content() {
    for vector in vectors().items("content") {
        let (content, bytes) = (content(&vector["content"]), vector.bytes("bytes"));
        assert_eq!(encode(Content::encode)(&content), bytes);
        assert_eq!(decode(Content::decode, &bytes), content);
        withstands(&bytes, whole(Content::decode), encode(Content::encode));
    }
}

#[test]
fn golden_segment() {
    let (vector, segment) = segment();
    let body = segment.encode();
    assert_eq!(Segment::decode(&body).unwrap(), segment);
    let (machine, life, seq) = (segment.machine, segment.incarnation, segment.seq);
    let name = names::segment(&epoch_keys(1), machine, life, seq);
    let context = Context::segment(ns(), machine, life, seq);
    check_object(vector, SignatureKind::Segment, &context, &body, &name);
}

#[test]
fn golden_head() {
    let (vector, head) = head();
    let body = head.encode();
    assert_eq!(Head::decode(&body).unwrap(), head);
    let name = names::head(&epoch_keys(1), head.machine, head.counter);
    let context = Context::head(ns(), head.machine, head.counter);
    check_object(vector, SignatureKind::Head, &context, &body, &name);
}

#[test]
fn golden_incarnation() {
    let (vector, record) = incarnation_record();
    let body = record.encode();
    assert_eq!(IncarnationRecord::decode(&body).unwrap(), record);
    let name = names::incarnation(&epoch_keys(0), record.machine, record.index);
    let context = Context::incarnation(ns(), record.machine, record.index);
    check_object(vector, SignatureKind::Incarnation, &context, &body, &name);
}

#[test]
fn the_vectors_hold_every_op() {
    let mut seen: Vec<u8> =
        segment().1.groups.iter().flat_map(|group| &group.ops).map(tag).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7, 8]);
}

fn tag(op: &Op) -> u8 {
    encode(Op::encode)(op)[0]
}

#[test]
fn damaged_ops_are_refused() {
    for op in segment().1.groups.iter().flat_map(|group| &group.ops) {
        withstands(&encode(Op::encode)(op), whole(Op::decode), encode(Op::encode));
    }
}

#[test]
fn damaged_records_are_refused() {
    withstands(&segment().1.encode(), Segment::decode, Segment::encode);
    withstands(&head().1.encode(), Head::decode, Head::encode);
    let without = Head { checkpoint: None, ..head().1 };
    withstands(&without.encode(), Head::decode, Head::encode);
    let record = incarnation_record().1;
    withstands(&record.encode(), IncarnationRecord::decode, IncarnationRecord::encode);
}

#[test]
fn a_count_beyond_the_input_costs_nothing() {
    let group = [&[0; 8][..], &1024_u32.to_le_bytes(), &[4; 100]].concat();
    assert!(whole(Group::decode)(&group).is_err());
    let too_many = [&[0; 8][..], &1025_u32.to_le_bytes(), &[4; 1025 * 29]].concat();
    assert!(whole(Group::decode)(&too_many).is_err());
    let body = segment().1.encode();
    // Behind namespace, epoch, hashes, machine, incarnation, seq and flags: the deps.
    for claim in [257, u32::MAX] {
        let mut body = body.clone();
        body[117..121].copy_from_slice(&claim.to_le_bytes());
        assert!(Segment::decode(&body).is_err());
    }
}

#[test]
fn names_that_leave_their_directory_are_refused() {
    let made = |name: &[u8]| {
        let (link, time) = (LinkId([1; 16]), Timestamp { seconds: 0, nanoseconds: 0 });
        let name = Bytes::copy_from_slice(name);
        encode(Op::encode)(&Op::Link { link, ino: 2, parent: 1, name, time })
    };
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'a'; 256]] {
        assert!(whole(Op::decode)(&made(name)).is_err(), "{name:?}");
    }
    for name in [&b"..."[..], b"\xff", &[b'a'; 255]] {
        assert!(whole(Op::decode)(&made(name)).is_ok(), "{name:?}");
    }
}

#[test]
fn numbers_beyond_their_bounds_are_refused() {
    let time = Timestamp { seconds: 0, nanoseconds: 0 };
    let write = |ino, size, used| {
        let content = Content::Empty;
        encode(Op::encode)(&Op::Write { ino, size, used, mtime: time, ctime: time, content })
    };
    let max = super::op::FILE_LEN_MAX;
    assert!(whole(Op::decode)(&write(1, max, max)).is_ok());
    assert!(whole(Op::decode)(&write((1 << 63) - 1, 0, 0)).is_ok());
    for (ino, size, used) in [(0, 0, 0), (1 << 63, 0, 0), (1, max + 1, 0), (1, 0, u64::MAX)] {
        assert!(whole(Op::decode)(&write(ino, size, used)).is_err(), "{ino} {size} {used}");
    }
    let set_mode = |mode| {
        let (uid, gid, atime, mtime) = (None, None, None, None);
        let mode = Some(mode);
        encode(Op::encode)(&Op::SetAttr { ino: 1, mode, uid, gid, atime, mtime, ctime: time })
    };
    assert!(whole(Op::decode)(&set_mode(0o7777)).is_ok());
    assert!(whole(Op::decode)(&set_mode(0o10000)).is_err());
}

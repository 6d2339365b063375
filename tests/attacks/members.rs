//! S22 and S23: a member of the vault that signs what no author makes. The members are
//! machines of the owner, so this is one that was broken into: what it says may be
//! refused, and must not reach outside the vault or break who reads it.

use super::adversary::{
    BLOCK, Insider, Recorder, add_key_file, each, open_fresh, scratch, world_on,
};
use super::vault::{World, cx, name, noise, read, run, write};
use bytes::Bytes;
use std::io::Read;
use std::sync::Arc;
use tgcryptfs::crypto::block::{self, BlockHead, BlockType, block_id};
use tgcryptfs::crypto::compress::Codec;
use tgcryptfs::crypto::{
    BlockId, Context, Incarnation, Key32, MachineId, PackId, SignatureKind, SigningKey, envelope,
    names,
};
use tgcryptfs::data::pack::PackWriter;
use tgcryptfs::engine::{Engine, Error, Silent};
use tgcryptfs::ids::{Hash, Hlc, LinkId};
use tgcryptfs::log::object_name;
use tgcryptfs::log::op::{Content, Group, Node, Op};
use tgcryptfs::log::record::{IncarnationRecord, PackInfo};
use tgcryptfs::log::segment::Segment;
use tgcryptfs::meta::row::BlockPlace;
use tgcryptfs::store::PutMode;
use tgcryptfs::vault::Member;
use tgcryptfs::vault::membership::{Level, Role};
use vfs::{At, ErrorKind, Ino, Timestamp, Vfs};

const MACHINE: MachineId = MachineId([0xee; 16]);
const LIFE: Incarnation = Incarnation([0xdd; 8]);
const SLOT: u16 = 77;
const NOW: Timestamp = Timestamp { seconds: 1_900_000_000, nanoseconds: 0 };

/// An inode number of the member's own share.
fn own(number: u64) -> u64 {
    (u64::from(SLOT) << 47) + number
}

fn link(number: u64) -> LinkId {
    let mut id = [0xcc; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    LinkId(id)
}

/// A machine that joined properly, with a log of its own.
struct Traitor {
    insider: Insider,
    signing: SigningKey,
    membership: Hash,
    seq: u64,
    previous: Hash,
}

impl Traitor {
    async fn join(world: &World) -> Self {
        let insider = Insider::look_into(&*world.store).await;
        let signing = SigningKey::from_seed(Key32::copy_of(&[0xaa; 32]));
        let member = Member {
            machine: MACHINE,
            slot: SLOT,
            role: Role::Write,
            level: Level::Owner,
            signing_key: *signing.public(),
            box_key: [9; 32],
            label: "traitor\u{1b}[2J".to_owned(),
        };
        let newest = insider.chain.last().unwrap();
        let created = newest.body().created + 1;
        let (object, record) =
            newest.add_member(&world.env, &insider.master, member, 1, created).unwrap();
        let (ns, n) = (record.namespace(), record.n());
        let key = insider.master.membership_name_key(ns);
        let membership = Hash(*record.hash());
        let mut traitor = Self { insider, signing, membership, seq: 0, previous: Hash([0; 32]) };
        traitor.put(world, &names::membership(&key, ns, n), object).await;
        let record = IncarnationRecord {
            namespace: ns,
            machine: MACHINE,
            index: 0,
            incarnation: LIFE,
            hlc: Hlc(created),
            membership,
        };
        let context = Context::incarnation(ns, MACHINE, 0);
        let name = names::incarnation(&traitor.insider.keys, MACHINE, 0);
        traitor.sign(world, (SignatureKind::Incarnation, &name, &context), record.encode()).await;
        traitor
    }

    async fn put(&self, world: &World, name: &str, object: Vec<u8>) {
        let mode = PutMode::CreateIfAbsent;
        world.store.put(&object_name(name), object.into(), mode).await.unwrap();
    }

    async fn sign(
        &mut self,
        world: &World,
        (kind, name, context): (SignatureKind, &str, &Context),
        mut body: Vec<u8>,
    ) {
        self.signing.sign_onto(kind, &mut body);
        self.previous = Hash(*blake3::hash(&body).as_bytes());
        let keys = &self.insider.keys;
        let sealed = envelope::seal(&world.env, keys, context, &body).unwrap();
        self.put(world, name, sealed).await;
    }

    /// Publishes a segment with these ops, without asking whether they make sense.
    async fn say(&mut self, world: &World, ops: Vec<Op>) {
        let ns = self.insider.keys.namespace();
        let previous = if self.seq == 0 { Hash([0; 32]) } else { self.previous };
        let segment = Segment {
            namespace: ns,
            epoch: 0,
            membership: self.membership,
            machine: MACHINE,
            incarnation: LIFE,
            seq: self.seq,
            previous,
            ends_batch: true,
            deps: vec![],
            groups: vec![Group { hlc: Hlc(u64::MAX >> 8), ops }],
        };
        let name = names::segment(&self.insider.keys, MACHINE, LIFE, self.seq);
        let context = Context::segment(ns, MACHINE, LIFE, self.seq);
        self.sign(world, (SignatureKind::Segment, &name, &context), segment.encode()).await;
        self.seq += 1;
    }
}

fn create(number: u64, parent: u64, name: impl Into<Bytes>, node: Node) -> Op {
    let (link, name) = (link(number), name.into());
    let (ino, time) = (own(number), NOW);
    Op::Create { link, ino, parent, name, node, mode: 0o6755, uid: 0, gid: 0, time }
}

fn regular(number: u64, name: &'static str) -> Op {
    create(number, 1, name, Node::Regular)
}

/// A vault with a file in it, another machine that knows it, and a traitor.
async fn betrayed() -> (World, Traitor) {
    let recorder = Arc::new(Recorder::default());
    let world = world_on(recorder).await;
    add_key_file(&world).await;
    let a = world.open("a").await;
    write(&a, "good", noise(100_000, 1), vfs::Stability::Buffered).await.unwrap();
    a.close().await.unwrap();
    let traitor = Traitor::join(&world).await;
    (world, traitor)
}

/// What the machine that was there before, and one that knows nothing, make of it.
async fn open_both(world: &World) -> [Result<(Engine, tempfile::TempDir), Error>; 2] {
    let known = world.try_open("a").await.map(|engine| (engine, scratch()));
    [known, open_fresh(world.store.clone()).await]
}

#[test]
fn s23_names_that_lead_elsewhere_are_refused() {
    let long = "x".repeat(256);
    let bad: [&[u8]; 12] = [
        b"../x",
        b"a/b",
        b"/etc/passwd",
        b"a\0b",
        b"\0",
        b".",
        b"..",
        b"",
        b"/",
        b"x/",
        long.as_bytes(),
        b"..\0",
    ];
    let ops = bad.iter().flat_map(|name| {
        let name = Bytes::copy_from_slice(name);
        [
            create(1, 1, name.clone(), Node::Regular),
            Op::Link { link: link(2), ino: 1, parent: 1, name: name.clone(), time: NOW },
            Op::Move { link: link(1), parent: 1, name, replaces: vec![], time: NOW },
        ]
    });
    let targets = [&b""[..], b"a\0b", &[b'x'; 4096]];
    let links =
        targets.map(|target| create(1, 1, "link", Node::Symlink(Bytes::copy_from_slice(target))));
    let attributes = [&b""[..], b"user.a\0b", &[b'x'; 256]].map(|name| Op::SetXattr {
        ino: 1,
        name: Bytes::copy_from_slice(name),
        value: Some(Bytes::new()),
        ctime: NOW,
    });
    let ops: Vec<Op> = ops.chain(links).chain(attributes).collect();
    each(&ops, async |op| {
        let (world, mut traitor) = betrayed().await;
        traitor.say(&world, vec![regular(9, "before"), op.clone()]).await;
        for result in open_both(&world).await {
            let error = result.err().unwrap_or_else(|| panic!("{op:?} is taken"));
            assert!(matches!(error, Error::Decode(_)), "{op:?}: {error:?}");
        }
    });
}

#[test]
fn s23_names_that_only_look_bad_are_names() {
    run(async {
        let (world, mut traitor) = betrayed().await;
        let long = "x".repeat(255);
        let names: [&[u8]; 10] = [
            b"\x1b]0;gone\x07\x1b[2J",
            b"\xff\xfe\xfd",
            b"...",
            b".. ",
            b" ",
            b"-rf",
            b"a\nb",
            "\u{202e}txt.exe".as_bytes(),
            b"CON",
            long.as_bytes(),
        ];
        let mut ops = Vec::new();
        for (number, name) in (10..).zip(names) {
            ops.push(create(number, 1, Bytes::copy_from_slice(name), Node::Regular));
        }
        let targets = [&b"/etc/passwd"[..], b"../../../etc/shadow", b"good", b"\x1b[2J"];
        for (number, target) in (50..).zip(targets) {
            let node = Node::Symlink(Bytes::copy_from_slice(target));
            ops.push(create(number, 1, format!("link{number}"), node));
        }
        traitor.say(&world, ops).await;
        for result in open_both(&world).await {
            let (engine, _dir) = result.unwrap();
            for name in names {
                let name = vfs::Name::new(name).unwrap();
                engine.lookup(cx(), Ino::ROOT, name).await.unwrap();
            }
            for (number, target) in (50..).zip(targets) {
                // Data, that nobody here follows.
                let text = format!("link{number}");
                let ino = engine.lookup(cx(), Ino::ROOT, name(&text)).await.unwrap().attr.ino;
                assert_eq!(engine.readlink(cx(), ino).await.unwrap(), target);
                let read = engine.read(cx(), At::Ino(ino), 0, 10).await;
                assert!(read.is_err(), "a link was read through");
            }
            let problems = engine.fsck(&Silent).await.unwrap().problems;
            assert!(problems.is_empty(), "{problems:?}");
            assert_eq!(read(&engine, "good").await.unwrap(), noise(100_000, 1));
        }
    });
}

/// Ops that are well formed and make no tree: loops, names of nothing, two of one.
fn broken_trees() -> Vec<Vec<Op>> {
    let dir = |number, parent, name: &'static str| create(number, parent, name, Node::Directory);
    let moved = |number, parent: u64, name: &'static str, replaces: Vec<LinkId>| Op::Move {
        link: link(number),
        parent,
        name: name.into(),
        replaces,
        time: NOW,
    };
    let linked = |number, ino, name: &'static str| Op::Link {
        link: link(number),
        ino,
        parent: 1,
        name: name.into(),
        time: NOW,
    };
    let mut root = dir(1, 1, "root again");
    if let Op::Create { ino, .. } = &mut root {
        *ino = 1;
    }
    let below_each_other = [moved(1, own(2), "d", vec![]), moved(2, own(1), "e", vec![])];
    vec![
        // A directory below itself, at once and by way of another.
        vec![dir(1, 1, "d"), moved(1, own(1), "d", vec![])],
        vec![dir(1, 1, "d"), dir(2, own(1), "e"), moved(1, own(2), "d", vec![])],
        [&[dir(1, 1, "d"), dir(2, 1, "e")], &below_each_other[..]].concat(),
        // Inodes that are there, or are not, or are not directories.
        vec![root],
        vec![create(1, (1 << 63) - 1, "nowhere", Node::Regular)],
        vec![regular(1, "f"), create(2, own(1), "in a file", Node::Regular)],
        vec![Op::Remove { link: link(99), time: NOW }],
        vec![moved(99, 1, "x", vec![])],
        vec![regular(1, "f"), moved(1, 1, "g", vec![link(1)])],
        vec![regular(1, "f"), moved(1, 1, "g", vec![link(98), link(99)])],
        vec![regular(1, "good")],
        vec![dir(1, 1, "d"), linked(2, own(1), "e")],
        vec![linked(2, 1, "root")],
        // One link in two places.
        vec![regular(1, "f"), linked(1, own(1), "g")],
        // A directory that is not empty goes away.
        vec![
            dir(1, 1, "d"),
            create(2, own(1), "f", Node::Regular),
            Op::Remove { link: link(1), time: NOW },
        ],
    ]
}

/// Ops that are well formed and say what is of no file, or of nothing.
fn broken_files() -> Vec<Vec<Op>> {
    let write =
        |ino, size, content| Op::Write { ino, size, used: size, mtime: NOW, ctime: NOW, content };
    let attributes = |ino, seconds| {
        let time = Timestamp { seconds, nanoseconds: 999_999_999 };
        let (mode, owner, at) = (Some(0o7777), Some(u32::MAX), Some(time));
        Op::SetAttr { ino, mode, uid: owner, gid: owner, atime: at, mtime: at, ctime: time }
    };
    let (pack, dir_hash) = (PackId([7; 16]), Hash([7; 32]));
    let pack = |epoch, size| Op::PackAdd { pack, epoch, size, dir_hash };
    let tree = |depth| Content::Tree { depth, root: BlockId([7; 32]) };
    let inline = |text: &'static str| Content::Inline(Bytes::from(text));
    let symlink = create(1, 1, "link", Node::Symlink(Bytes::from_static(b"x")));
    vec![
        // Content that is not there, or not of a file.
        vec![regular(1, "f"), write(own(1), 1 << 62, tree(5))],
        vec![regular(1, "f"), write(own(1), 1 << 62, tree(0))],
        vec![regular(1, "f"), write(own(1), 1 << 62, Content::Empty)],
        vec![regular(1, "f"), write(own(1), 1 << 62, inline("x"))],
        vec![regular(1, "f"), write(own(1), 0, tree(1))],
        vec![write(1, 100, inline("a directory with data"))],
        vec![write(own(55), 100, Content::Empty)],
        vec![symlink, write(own(1), 1 << 62, tree(2))],
        // Packs that are not there, of no length, of every length, of no epoch.
        vec![pack(0, 0)],
        vec![pack(0, 127)],
        vec![pack(0, u64::MAX)],
        vec![pack(u32::MAX, 1 << 20)],
        // Times and owners at the ends of their range.
        vec![regular(1, "f"), attributes(own(1), i64::MIN), attributes(1, i64::MAX)],
        vec![Op::SetXattr { ino: own(5), name: "user.x".into(), value: None, ctime: NOW }],
    ]
}

#[test]
fn s23_ops_that_fit_no_tree_harm_nobody() {
    let all = [broken_trees(), broken_files()].concat();
    each(&all, async |ops| {
        let (world, mut traitor) = betrayed().await;
        traitor.say(&world, ops.clone()).await;
        for result in open_both(&world).await {
            let (engine, _dir) = match result {
                Ok(opened) => opened,
                Err(Error::Fold(_)) => continue,
                Err(error) => panic!("{ops:?}: {error:?}"),
            };
            // Taken as they are: whatever was there is untouched, and everything that
            // can be done with it answers.
            assert_eq!(read(&engine, "good").await.unwrap(), noise(100_000, 1), "{ops:?}");
            drop(engine.fsck(&Silent).await.unwrap());
            for file in ["f", "d", "e", "g", "link"] {
                let Ok(entry) = engine.lookup(cx(), Ino::ROOT, name(file)).await else { continue };
                let at = At::Ino(entry.attr.ino);
                for offset in [0, 1 << 40, (1 << 62) - 5] {
                    if let Err(error) = engine.read(cx(), at, offset, 1 << 20).await {
                        let kind = error.kind();
                        assert!(!matches!(kind, ErrorKind::Io), "{ops:?}: {error:?}");
                    }
                }
            }
        }
    });
}

/// Puts a pack with one block into the store, as whoever has the keys can make it.
async fn forge_pack(
    (world, traitor): (&World, &Traitor),
    (codec, plain_len, id): (Codec, u32, BlockId),
    body: &[u8],
    number: u8,
) -> PackInfo {
    let (keys, pack) = (&traitor.insider.keys, PackId([number; 16]));
    let path = world.dir.path().join(format!("forged{number}"));
    let mut writer = PackWriter::create(keys, pack, &path, &world.env).unwrap();
    let head = BlockHead { block_type: BlockType::Data, id, codec, plain_len };
    let mut record = Vec::new();
    block::seal(&world.env, keys, &head, body, &mut record);
    let place = BlockPlace {
        pack,
        offset: 0,
        sealed_len: record.len() as u32,
        plain_len,
        epoch: 0,
        codec: codec.code(),
        kind: BlockType::Data.code(),
    };
    writer.append(id, place, &record).unwrap();
    let info = writer.close(&world.env).unwrap();
    traitor.put(world, &names::pack(keys, pack), std::fs::read(path).unwrap()).await;
    info
}

#[test]
fn s23_packs_announced_with_lengths_that_no_pack_has() {
    run(async {
        let (world, mut traitor) = betrayed().await;
        let mut ops = Vec::new();
        let lies = [u64::MAX, u64::MAX - 5, 1 << 62, 1 << 43, (1 << 33) + 1, 5000, 128, 1, 0];
        for (number, size) in (1..).zip(lies) {
            // What it holds would be right.
            let (data, plain_len) = (noise(1000, number), 1000);
            let id = block_id(traitor.insider.namespace_keys(), BlockType::Data, &data);
            let block = (Codec::Raw, plain_len, id);
            let info = forge_pack((&world, &traitor), block, &data, number as u8).await;
            assert_ne!(info.size, size);
            let PackInfo { pack, epoch, dir_hash, .. } = info;
            let (ino, content) = (own(number), Content::Tree { depth: 0, root: id });
            ops.push(Op::PackAdd { pack, epoch, size, dir_hash });
            ops.push(create(number, 1, format!("f{number}"), Node::Regular));
            ops.push(Op::Write { ino, size: 1000, used: 1000, mtime: NOW, ctime: NOW, content });
        }
        traitor.say(&world, ops).await;
        for result in open_both(&world).await {
            let (engine, _dir) = result.unwrap();
            for number in 1..=lies.len() {
                let error = read(&engine, &format!("f{number}")).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
            }
            assert!(engine.fsck(&Silent).await.unwrap().problems.len() >= lies.len());
            assert_eq!(read(&engine, "good").await.unwrap(), noise(100_000, 1));
        }
    });
}

/// What a zstd frame or LZ4 block of this many zeros is.
fn bomb(codec: Codec, len: usize) -> Vec<u8> {
    match codec {
        // In a stream, so that this test does not take the memory itself.
        Codec::Zstd => zstd::stream::encode_all(std::io::repeat(0).take(len as u64), 1).unwrap(),
        _ => lz4_flex::block::compress(&vec![0; len]),
    }
}

/// A block: its codec, how long it says that it is, how many zeros its id is of, and its
/// body.
type Forged = (Codec, usize, usize, Vec<u8>);

/// Reads a file of one block that says this of itself, in a vault of its own. A problem
/// with it is one that a check finds too, and there is no other.
async fn read_forged((codec, says, id_of, body): &Forged) -> vfs::Result<Vec<u8>> {
    let (world, mut traitor) = betrayed().await;
    let keys = traitor.insider.namespace_keys();
    let id = block_id(keys, BlockType::Data, &vec![0; *id_of]);
    let info = forge_pack((&world, &traitor), (*codec, *says as u32, id), body, 1).await;
    let PackInfo { pack, epoch, size: pack_size, dir_hash } = info;
    let (ino, size, content) = (own(1), *says as u64, Content::Tree { depth: 0, root: id });
    let ops = vec![
        Op::PackAdd { pack, epoch, size: pack_size, dir_hash },
        create(1, 1, "bomb", Node::Regular),
        Op::Write { ino, size, used: size, mtime: NOW, ctime: NOW, content },
    ];
    traitor.say(&world, ops).await;
    let (engine, _dir) = open_fresh(world.store.clone()).await.unwrap();
    let result = read(&engine, "bomb").await;
    let problems = engine.fsck(&Silent).await.unwrap().problems;
    assert_eq!(problems.is_empty(), result.is_ok(), "{problems:#?}");
    assert_eq!(read(&engine, "good").await.unwrap(), noise(100_000, 1));
    result
}

/// Each id is the one that whoever cut, filled up or took what comes out would find right.
#[test]
fn s22_blocks_that_expand_to_what_they_are_not() {
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    // The same with nothing wrong is read.
    let good: [Forged; 3] = [Codec::Zstd, Codec::Lz4, Codec::Raw].map(|codec| {
        let body = if codec == Codec::Raw { vec![0; BLOCK] } else { bomb(codec, BLOCK) };
        (codec, BLOCK, BLOCK, body)
    });
    each(&good, async |forged| {
        assert!(read_forged(forged).await.unwrap() == vec![0; BLOCK], "{:?}", forged.0);
    });
    let gib = bomb(Codec::Zstd, 1 << 30);
    let mut cases: Vec<Forged> = vec![
        (Codec::Zstd, BLOCK, BLOCK, gib.clone()),
        (Codec::Zstd, 5000, 5000, gib.clone()),
        (Codec::Zstd, 4 << 20, 4 << 20, gib),
        (Codec::Lz4, BLOCK, BLOCK, bomb(Codec::Lz4, 64 << 20)),
        (Codec::Raw, BLOCK, BLOCK, vec![0; BLOCK - 1]),
        (Codec::Raw, BLOCK, BLOCK - 1, vec![0; BLOCK - 1]),
        (Codec::Raw, 1000, 1000, vec![1; 1000]),
        (Codec::Zstd, 5000, 5000, b"neither a frame nor a block".to_vec()),
        (Codec::Lz4, 5000, 5000, b"neither a frame nor a block".to_vec()),
    ];
    for codec in [Codec::Zstd, Codec::Lz4] {
        for len in [BLOCK - 1, BLOCK + 1] {
            cases.push((codec, BLOCK, BLOCK, bomb(codec, len)));
            cases.push((codec, BLOCK, len, bomb(codec, len)));
        }
        // Something else than its id.
        cases.push((codec, BLOCK, 1000, bomb(codec, BLOCK)));
    }
    let before = peak();
    let numbered: Vec<_> = cases.into_iter().enumerate().collect();
    each(&numbered, async |(number, forged)| {
        let error = read_forged(forged).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "case {number}: {error:?}");
    });
    // Other tests run beside this one; none takes a gibibyte, as these would.
    let grown = peak() - before;
    assert!(grown < 900 << 10, "{grown} KiB");
}

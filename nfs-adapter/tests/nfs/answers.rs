//! What answers say besides that something worked.

use crate::probe::LastWrite;
use crate::support::{Served, handle};
use crate::wire::{Auth, In, Out, Wire};
use vfs::{Dac, Stability, WriteAt};

const SETATTR: u32 = 2;
const WRITE: u32 = 7;
const CREATE: u32 = 8;
const COMMIT: u32 = 21;
const STALE: u32 = 70;
const BAD_HANDLE: u32 = 10_001;

fn file(ino: u64) -> Out {
    Out::default().opaque(&handle(ino))
}

fn create(wire: &mut Wire, name: &[u8]) {
    let out = file(1).opaque(name).words(&[0, 1, 0o644, 0, 0, 0, 0, 0]);
    assert_eq!(wire.status(&Auth::root(), CREATE, &out), 0);
}

/// Whether attributes are there.
fn post_op(body: &mut In<'_>) -> bool {
    let is_there = body.bool();
    body.bytes(if is_there { 84 } else { 0 });
    is_there
}

/// Whether attributes before and after are there.
fn wcc(body: &mut In<'_>) -> (bool, bool) {
    let is_before = body.bool();
    body.bytes(if is_before { 24 } else { 0 });
    (is_before, post_op(body))
}

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Nothing,
    Attr,
    Wcc,
    TwoWccs,
    AttrAndWcc,
}

/// Checks that a failure has the shape it must, with attributes wherever they can be had.
#[track_caller]
fn fails(wire: &mut Wire, (procedure, arguments): (u32, &Out), status: u32, after: After) {
    let has_attr = !matches!(status, STALE | BAD_HANDLE);
    let body = wire.nfs(&Auth::root(), procedure, arguments);
    let mut body = In(&body);
    assert_eq!(body.u32(), status, "procedure {procedure}");
    match after {
        After::Nothing => {}
        After::Attr => assert_eq!(post_op(&mut body), has_attr, "procedure {procedure}"),
        After::Wcc => assert_eq!(wcc(&mut body), (false, has_attr), "procedure {procedure}"),
        After::TwoWccs => {
            assert_eq!([wcc(&mut body), wcc(&mut body)], [(false, has_attr); 2]);
        }
        After::AttrAndWcc => {
            assert_eq!(post_op(&mut body), has_attr);
            assert_eq!(wcc(&mut body), (false, has_attr));
        }
    }
    body.end();
}

#[test]
fn failures_have_their_shape_and_attributes_where_there_are_any() {
    let served = Served::new();
    let mut wire = served.wire();
    create(&mut wire, b"f");
    let none = [0; 6];
    // The first handle of each is the root's, another, or none.
    type Rest = fn(Out) -> Out;
    let calls: [(u32, Rest, After); 21] = [
        (1, |out| out, After::Nothing),
        (2, |out| out.words(&[0; 7]), After::Wcc),
        (3, |out| out.opaque(b"x"), After::Attr),
        (4, |out| out.u32(0x3f), After::Attr),
        (5, |out| out, After::Attr),
        (6, |out| out.u64(0).u32(1), After::Attr),
        (7, |out| out.u64(0).words(&[0, 0, 0]), After::Wcc),
        (8, |out| out.opaque(b"x").words(&[0; 7]), After::Wcc),
        (9, |out| out.opaque(b"x").words(&[0; 6]), After::Wcc),
        (10, |out| out.opaque(b"x").words(&[0; 6]).opaque(b"t"), After::Wcc),
        (11, |out| out.opaque(b"x").u32(7).words(&[0; 6]), After::Wcc),
        (12, |out| out.opaque(b"x"), After::Wcc),
        (13, |out| out.opaque(b"x"), After::Wcc),
        (
            14,
            |out| {
                let same = out.0.clone();
                out.opaque(b"x").bytes(&same).opaque(b"y")
            },
            After::TwoWccs,
        ),
        (
            15,
            |out| {
                let same = out.0.clone();
                out.bytes(&same).opaque(b"y")
            },
            After::AttrAndWcc,
        ),
        (16, |out| out.u64(0).u64(0).u32(4096), After::Attr),
        (17, |out| out.u64(0).u64(0).words(&[4096, 4096]), After::Attr),
        (18, |out| out, After::Attr),
        (19, |out| out, After::Attr),
        (20, |out| out, After::Attr),
        (21, |out| out.u64(0).u32(0), After::Wcc),
    ];
    for (procedure, rest, after) in calls {
        let bad = rest(Out::default().opaque(&[5; 41]));
        fails(&mut wire, (procedure, &bad), BAD_HANDLE, after);
        fails(&mut wire, (procedure, &rest(file(1 << 40))), STALE, after);
    }
    let not_found = [
        (3, file(1).opaque(b"x"), After::Attr),
        (12, file(1).opaque(b"x"), After::Wcc),
        (13, file(1).opaque(b"x"), After::Wcc),
        (14, file(1).opaque(b"x").opaque(&handle(1)).opaque(b"y"), After::TwoWccs),
    ];
    for (procedure, arguments, after) in not_found {
        fails(&mut wire, (procedure, &arguments), 2, after);
    }
    fails(&mut wire, (8, &file(1).opaque(b"f").u32(1).words(&none)), 17, After::Wcc);
    fails(&mut wire, (12, &file(1).opaque(b".")), 22, After::Wcc);
    fails(&mut wire, (13, &file(1).opaque(b"..")), 17, After::Wcc);
    fails(&mut wire, (9, &file(1).opaque(b"..").words(&none)), 17, After::Wcc);
    fails(&mut wire, (9, &file(1).opaque(b"a/b").words(&none)), 22, After::Wcc);
    fails(&mut wire, (9, &file(1).opaque(&[b'n'; 256]).words(&none)), 63, After::Wcc);
    fails(&mut wire, (12, &file(1).opaque(&[b'n'; 256])), 63, After::Wcc);
    fails(&mut wire, (15, &file(1).opaque(&handle(1)).opaque(b"d")), 1, After::AttrAndWcc);
    // A directory by MKNOD: a bad type.
    fails(&mut wire, (11, &file(1).opaque(b"n").u32(2)), 10_007, After::Wcc);
    fails(&mut wire, (5, &file(1)), 22, After::Attr);
    fails(&mut wire, (6, &file(1).u64(0).u32(1)), 21, After::Attr);
    fails(&mut wire, (16, &file(2).u64(0).u64(0).u32(4096)), 20, After::Attr);
}

#[test]
fn a_guard_with_another_time_changes_nothing() {
    let served = Served::new();
    let mut wire = served.wire();
    create(&mut wire, b"f");
    let mode = |out: Out| out.words(&[1, 0o600, 0, 0, 0, 0, 0]);
    let guarded = mode(file(2)).words(&[1, 1, 1]);
    fails(&mut wire, (SETATTR, &guarded), 10_002, After::Wcc);
    let attr = wire.nfs(&Auth::root(), 1, &file(2));
    assert_eq!(In(&attr[8..]).u32(), 0o644);
    // The change time stands at the end of the attributes.
    let ctime = &attr[attr.len() - 8..];
    let guarded = mode(file(2)).u32(1).bytes(ctime);
    assert_eq!(wire.status(&Auth::root(), SETATTR, &guarded), 0);
}

/// What a write answers: bytes, how safe, verifier.
fn write(wire: &mut Wire, data: &[u8], stable: u32) -> (u32, u32, u64) {
    let out = file(2).u64(0).words(&[data.len() as u32, stable]).opaque(data);
    let body = wire.nfs(&Auth::root(), WRITE, &out);
    let mut body = In(&body);
    assert_eq!(body.u32(), 0);
    assert_eq!(wcc(&mut body), (true, true));
    let written = (body.u32(), body.u32(), body.u64());
    body.end();
    written
}

fn commit(wire: &mut Wire, offset: u64, len: u32) -> u64 {
    let body = wire.nfs(&Auth::root(), COMMIT, &file(2).u64(offset).u32(len));
    let mut body = In(&body);
    assert_eq!(body.u32(), 0);
    assert_eq!(wcc(&mut body), (false, true));
    let verifier = body.u64();
    body.end();
    verifier
}

#[test]
fn how_safe_a_write_is_is_asked_for_and_told() {
    let served = Served::new();
    let mut wire = served.wire();
    create(&mut wire, b"f");
    // The model promises no more than it was asked for. Unstable, data, file.
    let asked = [Stability::Buffered, Stability::Journaled, Stability::Journaled];
    for (stable, asked) in (0..).zip(asked) {
        let told = if asked == Stability::Buffered { 0 } else { 2 };
        assert_eq!(write(&mut wire, b"data", stable), (4, told, 1));
        let last = served.probe.last_write().unwrap();
        let expected = LastWrite {
            uid: 0,
            dac: Dac::EnforceExceptOwner,
            has_op: true,
            place: WriteAt::Offset(0),
            len: 4,
            slices: 1,
            stability: asked,
        };
        assert_eq!(last, expected);
    }
    assert_eq!(commit(&mut wire, 5, 7), 1);
    assert_eq!(served.probe.last_sync(), Some((5, 7, Stability::Journaled)));
}

#[test]
fn what_counts_as_safe_is_the_exports_choice() {
    let served = Served::with(|export| export.fsync = Stability::Uploaded);
    let mut wire = served.wire();
    create(&mut wire, b"f");
    assert_eq!(write(&mut wire, b"data", 2), (4, 2, 1));
    assert_eq!(served.probe.last_write().unwrap().stability, Stability::Uploaded);
    commit(&mut wire, 0, 0);
    assert_eq!(served.probe.last_sync(), Some((0, 0, Stability::Uploaded)));
}

#[test]
fn the_verifier_is_the_file_systems_and_follows_it() {
    let served = Served::new();
    let mut wire = served.wire();
    create(&mut wire, b"f");
    assert_eq!((write(&mut wire, b"data", 0).2, commit(&mut wire, 0, 0)), (1, 1));
    served.probe.set_verifier(0x1234_5678_9abc_def0);
    let new = (write(&mut wire, b"data", 0).2, commit(&mut wire, 0, 0));
    assert_eq!(new, (0x1234_5678_9abc_def0, 0x1234_5678_9abc_def0));
}

#[test]
fn data_of_any_size_arrives_and_comes_back() {
    let served = Served::new();
    let mut wire = served.wire();
    create(&mut wire, b"f");
    for len in [0, 1, 3, 4, 4095, 9000, 65_537, 300_001, 1 << 20] {
        let data: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        assert_eq!(write(&mut wire, &data, 0).0, len);
        let body = wire.nfs(&Auth::root(), 6, &file(2).u64(0).u32(len));
        let mut body = In(&body);
        assert_eq!(body.u32(), 0);
        assert!(post_op(&mut body));
        assert_eq!((body.u32(), body.bool()), (len, true), "{len}");
        assert!(body.opaque() == data, "{len}");
        body.end();
    }
    // More than the server reads at once is cut, not refused.
    let body = wire.nfs(&Auth::root(), 6, &file(2).u64(7).u32(u32::MAX));
    let mut body = In(&body[4..]);
    assert!(post_op(&mut body));
    assert_eq!((body.u32(), body.bool()), ((1 << 20) - 7, true));
}

#[test]
fn an_exclusive_create_may_be_repeated_with_its_verifier() {
    let served = Served::new();
    let mut wire = served.wire();
    let out = |verifier| file(1).opaque(b"f").u32(2).u64(verifier);
    assert_eq!(wire.status(&Auth::root(), CREATE, &out(5)), 0);
    assert_eq!(wire.status(&Auth::root(), CREATE, &out(5)), 0);
    assert_eq!(served.probe.count("create"), 2, "two calls, not one repeated");
    assert_eq!(wire.status(&Auth::root(), CREATE, &out(6)), 17);
}

#[test]
fn directories_and_nodes_get_the_attributes_asked_for() {
    let served = Served::new();
    let mut wire = served.wire();
    let set = [1, 0o750, 1, 7, 1, 8, 0, 0, 0];
    let calls = [
        (9, file(1).opaque(b"d").words(&set)),
        (11, file(1).opaque(b"p").u32(7).words(&set)),
        (11, file(1).opaque(b"c").u32(4).words(&set).words(&[1, 3])),
    ];
    for ((procedure, arguments), (kind, devices)) in
        calls.iter().zip([(2, [0, 0]), (7, [0, 0]), (4, [1, 3])])
    {
        let body = wire.nfs(&Auth::root(), *procedure, arguments);
        let mut body = In(&body);
        assert_eq!((body.u32(), body.bool()), (0, true));
        body.opaque();
        assert!(body.bool());
        let mut attr = In(body.bytes(84));
        let told = [(); 5].map(|()| attr.u32());
        let links = if kind == 2 { 2 } else { 1 };
        assert_eq!(told, [kind, 0o750, links, 7, 8]);
        attr.bytes(16);
        assert_eq!([attr.u32(), attr.u32()], devices);
        assert_eq!(wcc(&mut body), (true, true));
        body.end();
    }
}

#[test]
fn renames_that_replace_follow_the_rules() {
    let served = Served::new();
    let mut wire = served.wire();
    let rename = |from: u64, name: &[u8], to: u64, new: &[u8]| {
        (14, file(from).opaque(name).opaque(&handle(to)).opaque(new))
    };
    // Inodes: 2 is a directory, 3 one in it, 4 a file with two names.
    for (dir, name) in [(1, b"outer"), (2, b"inner")] {
        let out = file(dir).opaque(name).words(&[1, 0o755, 0, 0, 0, 0, 0]);
        assert_eq!(wire.status(&Auth::root(), 9, &out), 0);
    }
    create(&mut wire, b"f");
    let link = file(4).opaque(&handle(1)).opaque(b"g");
    assert_eq!(wire.status(&Auth::root(), 15, &link), 0);
    for ((procedure, arguments), status) in [
        (rename(1, b"outer", 3, b"x"), 22),
        (rename(2, b"inner", 1, b"outer"), 66),
        (rename(1, b"missing", 1, b"x"), 2),
        (rename(1, b".", 1, b"x"), 22),
        (rename(1, b"f", 1, b".."), 22),
    ] {
        fails(&mut wire, (procedure, &arguments), status, After::TwoWccs);
    }
    // Both names of one file stay.
    let (procedure, arguments) = rename(1, b"f", 1, b"g");
    assert_eq!(wire.status(&Auth::root(), procedure, &arguments), 0);
    for name in [b"f", b"g"] {
        assert_eq!(wire.status(&Auth::root(), 3, &file(1).opaque(name)), 0);
    }
}

#[test]
fn what_another_removes_or_replaces_is_stale_at_once() {
    let served = Served::new();
    let (mut one, mut other) = (served.wire(), served.wire());
    for name in [&b"removed"[..], b"replaced", b"new"] {
        create(&mut one, name);
    }
    let reads = |one: &mut Wire| {
        [2, 3, 4].map(|ino| one.status(&Auth::root(), 6, &file(ino).u64(0).u32(10)))
    };
    assert_eq!(reads(&mut one), [0, 0, 0]);
    assert_eq!(other.status(&Auth::root(), 12, &file(1).opaque(b"removed")), 0);
    let over = file(1).opaque(b"new").opaque(&handle(1)).opaque(b"replaced");
    assert_eq!(other.status(&Auth::root(), 14, &over), 0);
    assert_eq!(reads(&mut one), [STALE, STALE, 0]);
}

#[test]
fn sticky_directories_protect_entries() {
    let served = Served::new();
    let mut wire = served.wire();
    create(&mut wire, b"f");
    let (remove, rename) =
        (file(1).opaque(b"f"), file(1).opaque(b"f").opaque(&handle(1)).opaque(b"g"));
    for (procedure, arguments) in [(12, remove), (14, rename)] {
        assert_eq!(wire.status(&Auth::user(1000), procedure, &arguments), 1);
        assert_eq!(wire.status(&Auth::root(), 3, &file(1).opaque(b"f")), 0);
    }
}

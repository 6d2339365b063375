use super::*;
use crate::conformance::block_on;
use crate::model::{ManualClock, ModelFs, ModelOptions};
use crate::{Context, Cred, Dac, Ino, Kind, Limits, Make, Name, SetAttr, Vfs, WriteAt};
use std::collections::BTreeMap;
use std::time::Duration;

fn model(block: u64, clock: &ManualClock) -> ModelFs {
    let options = ModelOptions { block, ..ModelOptions::default() };
    ModelFs::with_options(clock.clock(), options)
}

/// Where two implementations first differ, if they do.
fn first_difference(a: &ModelFs, b: &ModelFs, clock: &ManualClock, seed: u64) -> Option<usize> {
    let mut next = numbers(seed);
    let dac = [Dac::Enforce, Dac::EnforceExceptOwner, Dac::Delegated][seed as usize % 3];
    let mut sessions = (Session::new(dac, true), Session::new(dac, true));
    block_on(async {
        for round in 0..600 {
            clock.advance(Duration::from_nanos(u64::from(next() % 2)));
            let op = Op::random(&mut next);
            let outcomes =
                (apply(a, &mut sessions.0, &op).await, apply(b, &mut sessions.1, &op).await);
            if outcomes.0 != outcomes.1 {
                return Some(round);
            }
        }
        let trees = (dump(a, true).await.unwrap(), dump(b, true).await.unwrap());
        check_links(&trees.0);
        (trees.0 != trees.1).then_some(usize::MAX)
    })
}

/// The invariants every tree has.
fn check_links(tree: &Tree) {
    let mut names: BTreeMap<&[u8], u32> = BTreeMap::new();
    for (path, node) in tree {
        *names.entry(node.same_as.as_deref().unwrap_or(path)).or_default() += 1;
    }
    for (path, node) in tree {
        if node.kind == Kind::Directory {
            let below = |other: &&Vec<u8>| {
                other.strip_prefix(&path[..]).is_some_and(|rest| {
                    rest.starts_with(b"/") && rest.iter().filter(|b| **b == b'/').count() == 1
                })
            };
            let dirs = tree.iter().filter(|(_, node)| node.kind == Kind::Directory);
            assert_eq!(node.nlink as usize, 2 + dirs.map(|(path, _)| path).filter(below).count());
        } else {
            let first = node.same_as.as_deref().unwrap_or(path);
            assert_eq!(node.nlink, names[first], "links of {path:?}");
        }
    }
}

#[test]
fn two_models_agree_whatever_their_blocks() {
    for seed in 0..30 {
        let clock = ManualClock::new(1_800_000_000);
        let (a, b) = (model(4096, &clock), model(1000, &clock));
        assert_eq!(first_difference(&a, &b, &clock, seed), None, "seed {seed}");
    }
}

#[test]
fn a_difference_is_found() {
    let clock = ManualClock::new(1_800_000_000);
    let limits = Limits { file_size_max: 1 << 30, ..ModelOptions::default().limits };
    let found = (0..20).any(|seed| {
        let odd = ModelFs::with_options(
            clock.clock(),
            ModelOptions { limits, ..ModelOptions::default() },
        );
        first_difference(&model(4096, &clock), &odd, &clock, seed).is_some()
    });
    assert!(found, "a smaller file size limit went unnoticed");
}

#[test]
fn the_same_seed_gives_the_same_operations() {
    let ops = |seed| {
        let mut next = numbers(seed);
        (0..100).map(|_| format!("{:?}", Op::random(&mut next))).collect::<Vec<_>>()
    };
    assert_eq!(ops(5), ops(5));
    assert_ne!(ops(5), ops(6));
}

#[test]
fn every_operation_is_tried_and_works_now_and_then() {
    let mut worked: BTreeMap<String, bool> = BTreeMap::new();
    for seed in 0..40 {
        let clock = ManualClock::new(1_800_000_000);
        let fs = model(4096, &clock);
        let mut session = Session::new(Dac::Enforce, false);
        let mut next = numbers(seed);
        for _ in 0..500 {
            let op = Op::random(&mut next);
            let text = format!("{op:?}");
            let verb = text.split([' ', '(']).next().unwrap().to_owned();
            let outcome = block_on(apply(&fs, &mut session, &op));
            *worked.entry(verb).or_default() |= !matches!(outcome, Outcome::Failed(_));
        }
    }
    assert_eq!(worked.len(), 25, "kinds of operations");
    let never: Vec<_> = worked.iter().filter(|(_, worked)| !**worked).collect();
    assert!(never.is_empty(), "never worked: {never:?}");
}

/// One file with two names, a directory, a link and some attributes.
fn sample(data: &'static [u8]) -> Tree {
    let fs = model(4096, &ManualClock::new(1_800_000_000));
    let cred = Cred::root();
    let cx = Context { cred: &cred, dac: Dac::Enforce, op: None };
    let name = |name: &'static [u8]| Name::new(name).unwrap();
    block_on(async {
        let attr = SetAttr::default();
        let what = Make::Directory;
        let dir = fs.make(cx, Ino::ROOT, name(b"d"), what, &attr).await?.entry.attr.ino;
        let reuse = crate::IfExists::Reuse;
        let file = fs.create(cx, dir, name(b"f"), &attr, reuse, None).await?.entry.attr.ino;
        fs.link(cx, file, Ino::ROOT, name(b"z")).await?;
        let what = Make::Symlink { target: b"target" };
        fs.make(cx, Ino::ROOT, name(b"l"), what, &attr).await?;
        let (at, data) = (crate::At::Ino(file), bytes::Bytes::from_static(data));
        let place = WriteAt::Offset(1 << 33);
        fs.write(cx, at, place, data.into(), crate::Stability::Buffered).await?;
        let value = Some(bytes::Bytes::from_static(b"v"));
        fs.set_xattr(cx, file, b"user.a", value, XattrMode::Either).await?;
        dump(&fs, false).await
    })
    .unwrap()
}

#[test]
fn a_dump_holds_everything() {
    let tree = sample(b"data");
    let paths: Vec<_> = tree.keys().map(|path| String::from_utf8_lossy(path)).collect();
    assert_eq!(paths, ["", "/d", "/d/f", "/l", "/z"]);
    let file = &tree[&b"/d/f"[..]];
    let cells = BTreeMap::from([(1 << 33, b"data".to_vec())]);
    assert_eq!((file.nlink, file.size), (2, (1 << 33) + 4));
    assert_eq!(file.content, Content::File(cells));
    assert_eq!(file.xattrs.len(), 1);
    assert_eq!(tree[&b"/z"[..]].same_as.as_deref(), Some(&b"/d/f"[..]));
    assert_eq!(tree[&b"/l"[..]].content, Content::Symlink("target".into()));
    assert_ne!(tree, sample(b"Data"), "another content is another tree");
    assert_eq!(tree, sample(b"data"));
}

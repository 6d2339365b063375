//! Listings: every entry once, in replies no longer than asked for.

use crate::client::{page as listed, page_plus as listed_plus};
use crate::support::Served;
use crate::wire::{Auth, Out, Wire};
use nfs3_client::nfs3_types::nfs3::{
    Nfs3Result, READDIR3res, READDIRPLUS3res, nfsstat3, post_op_attr,
};
use nfs3_client::nfs3_types::xdr_codec::Unpack;
use std::collections::BTreeSet;
use vfs::DirPage;

const TOO_SMALL: u32 = 10_005;
const READDIR: u32 = 16;
const READDIRPLUS: u32 = 17;
/// That the directory's attributes are there, they and the verifier; and the end.
const FRAME: u32 = 4 + 84 + 8 + 8;

fn fill(wire: &mut Wire, dir: &[u8], names: impl Iterator<Item = String>) {
    for name in names {
        let out = Out::default().opaque(dir).opaque(name.as_bytes());
        assert_eq!(wire.status(&Auth::root(), 8, &out.words(&[1, 0, 0, 0, 0, 0, 0])), 0);
    }
}

/// All of a body, decoded.
fn whole<T: Unpack>(body: &[u8]) -> T {
    let (value, len) = T::unpack(&mut &body[..]).unwrap();
    assert_eq!(len, body.len(), "bytes too many");
    value
}

fn refused(status: nfsstat3, dir: &post_op_attr) -> u32 {
    assert!(dir.is_some(), "attributes of the directory");
    status as u32
}

/// A page, and the length that the caller bounds; or the status.
fn page(wire: &mut Wire, dir: &[u8], after: u64, limits: &[u32]) -> Result<(DirPage, u32), u32> {
    // Any verifier will do.
    let out = Out::default().opaque(dir).u64(after).u64(0x1234).words(limits);
    let plus = limits.len() == 2;
    let body = wire.nfs(&Auth::root(), if plus { READDIRPLUS } else { READDIR }, &out);
    let page = if plus {
        match whole::<READDIRPLUS3res<'_>>(&body) {
            Nfs3Result::Ok(page) => listed_plus(page),
            Nfs3Result::Err((status, fail)) => return Err(refused(status, &fail.dir_attributes)),
        }
    } else {
        match whole::<READDIR3res<'_>>(&body) {
            Nfs3Result::Ok(page) => listed(page),
            Nfs3Result::Err((status, fail)) => return Err(refused(status, &fail.dir_attributes)),
        }
    };
    Ok((page, body.len() as u32 - 4))
}

fn padded(name: &str) -> u32 {
    name.len().next_multiple_of(4) as u32
}

#[test]
fn pages_of_any_size_list_everything_once() {
    let served = Served::new();
    let (mut wire, root) = served.mounted();
    let names = || (0..400).map(|at| format!("name {}", "x".repeat(at % 50) + &at.to_string()));
    fill(&mut wire, &root, names());
    let expected: BTreeSet<String> = names().chain([".", ".."].map(str::to_owned)).collect();
    for limits in [
        &[512][..],
        &[4096],
        &[1 << 20],
        &[u32::MAX],
        &[512, 1024],
        &[300, 60_000],
        &[u32::MAX, 700],
        &[u32::MAX, u32::MAX],
    ] {
        let (mut seen, mut after) = (Vec::new(), 0);
        loop {
            let (page, len) = page(&mut wire, &root, after, limits).unwrap();
            assert!(len <= *limits.last().unwrap(), "{len} of {limits:?}");
            let names_len: u32 = page
                .entries
                .iter()
                .map(|entry| 24 + entry.name.len().next_multiple_of(4) as u32)
                .sum();
            assert!(names_len <= limits[0]);
            after = page.entries.last().unwrap().cookie.0;
            seen.extend(page.entries.iter().map(|e| String::from_utf8(e.name.to_vec()).unwrap()));
            if page.end {
                break;
            }
            // It is full: not even the longest name would have found room in what is left
            // unless the reply is at its largest.
            let longest = 24 + 64 + if limits.len() == 2 { 140 } else { 0 };
            let is_full = len + longest > limits.last().copied().unwrap().min(1 << 20)
                || names_len + 24 + 64 > limits[0];
            assert!(is_full, "{len} of {limits:?}");
        }
        assert_eq!(seen.len(), expected.len(), "{limits:?}");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expected);
    }
}

#[test]
fn a_reply_is_as_long_as_asked_to_the_byte() {
    let served = Served::new();
    let (mut wire, root) = served.mounted();
    fill(&mut wire, &root, ["first".to_owned(), "the second".to_owned()].into_iter());
    // Behind the dots; plain entries have 24 bytes besides their names.
    let first = FRAME + 24 + padded("first");
    let both = first + 24 + padded("the second");
    assert_eq!(page(&mut wire, &root, 2, &[first - 1]).map(|_| ()), Err(TOO_SMALL));
    for (limit, count) in [(first, 1), (both - 1, 1), (both, 2)] {
        let (page, len) = page(&mut wire, &root, 2, &[limit]).unwrap();
        assert_eq!((page.entries.len(), page.end), (count, count == 2), "{limit}");
        assert_eq!(len, if count == 2 { both } else { first });
    }
    // With attributes and handle, 140 more each.
    let (first, both) = (first + 140, both + 280);
    let names = 24 + padded("first");
    assert_eq!(page(&mut wire, &root, 2, &[names, first - 1]).map(|_| ()), Err(TOO_SMALL));
    assert_eq!(page(&mut wire, &root, 2, &[names - 1, 4096]).map(|_| ()), Err(TOO_SMALL));
    for (limits, count) in [
        ([names, first], 1),
        ([4096, both - 1], 1),
        ([names + 24 + padded("the second") - 1, both], 1),
        ([names + 24 + padded("the second"), both], 2),
    ] {
        let (page, _) = page(&mut wire, &root, 2, &limits).unwrap();
        assert_eq!((page.entries.len(), page.end), (count, count == 2), "{limits:?}");
    }
}

#[test]
fn what_has_no_room_at_all_is_too_small() {
    let served = Served::new();
    let (mut wire, root) = served.mounted();
    for limits in [&[0][..], &[8], &[95], &[0, 0], &[8, 8], &[4096, 100]] {
        assert_eq!(page(&mut wire, &root, 0, limits).map(|_| ()), Err(TOO_SMALL), "{limits:?}");
    }
    // The end of a listing needs no room for entries.
    let (page, _) = page(&mut wire, &root, 2, &[FRAME]).unwrap();
    assert!(page.end && page.entries.is_empty());
}

#[test]
fn dots_come_first_and_are_the_directory_and_its_parent() {
    let served = Served::new();
    let (mut wire, root) = served.mounted();
    let out = Out::default().opaque(&root).opaque(b"dir").words(&[1, 0o755, 0, 0, 0, 0, 0]);
    assert_eq!(wire.status(&Auth::root(), 9, &out), 0);
    let dir = crate::support::handle(2);
    fill(&mut wire, &dir, ["f".to_owned()].into_iter());
    for limits in [&[4096][..], &[4096, 4096]] {
        let (whole, _) = page(&mut wire, &dir, 0, limits).unwrap();
        let listed: Vec<_> =
            whole.entries.iter().map(|e| (&e.name[..], e.ino.get(), e.cookie.0)).collect();
        assert_eq!(listed[..2], [(&b"."[..], 2, 1), (b"..", 1, 2)]);
        assert!(listed[2].2 >= 3 && whole.end);
        for (after, names) in [(1, 2), (2, 1), (listed[2].2, 0)] {
            let (rest, _) = page(&mut wire, &dir, after, limits).unwrap();
            assert_eq!((rest.entries.len(), rest.end), (names, true), "after {after}");
        }
    }
}

#[test]
fn attributes_that_do_not_come_along_are_asked_for() {
    let served = Served::new();
    let (mut wire, root) = served.mounted();
    fill(&mut wire, &root, (0..20).map(|at| at.to_string()));
    let (with, _) = page(&mut wire, &root, 0, &[4096, 60_000]).unwrap();
    served.probe.hide_attr();
    let (without, _) = page(&mut wire, &root, 0, &[4096, 60_000]).unwrap();
    let attrs = |page: &DirPage| {
        page.entries.iter().map(|e| e.entry.as_ref().unwrap().attr.clone()).collect::<Vec<_>>()
    };
    assert_eq!(attrs(&with)[2..], attrs(&without)[2..]);
}

#[test]
fn who_may_list_but_not_search_sees_all_names() {
    let served = Served::new();
    let (mut wire, root) = served.mounted();
    let out = Out::default().opaque(&root).opaque(b"dir").words(&[1, 0o744, 0, 0, 0, 0, 0]);
    assert_eq!(wire.status(&Auth::root(), 9, &out), 0);
    let dir = Out::default().opaque(&crate::support::handle(2)).u64(0).u64(0).u32(4096);
    let body = wire.nfs(&Auth::user(1000), READDIR, &dir);
    let page = listed(whole::<READDIR3res<'_>>(&body).unwrap());
    let dots: Vec<_> = page.entries.iter().map(|entry| &entry.name[..]).collect();
    assert_eq!(dots, [&b"."[..], b".."]);
}

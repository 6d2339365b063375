//! Extended attributes.

use crate::p9::client::{
    Called, Client, EBADF, EBUSY, EEXIST, EINVAL, ENODATA, EOPNOTSUPP, ERANGE, O_RDONLY, Put,
    T_XATTRCREATE, T_XATTRWALK, Take,
};
use crate::p9::support::{ROOT, Served, trusting};
use tgcryptfs_p9::{Bounds, Export};

const CREATE: u32 = 1;
const REPLACE: u32 = 2;

/// Makes a fid for an attribute; gives it and the length.
fn reads(client: &mut Client, fid: u32, name: &str) -> Called<(u32, u64)> {
    let new = client.fid();
    let answer = client.call(T_XATTRWALK, &Put::default().u32(fid).u32(new).s(name))?;
    Ok((new, Take(&answer).u64()))
}

fn get(client: &mut Client, fid: u32, name: &str) -> Called {
    let (reading, len) = reads(client, fid, name)?;
    let value = client.read(reading, 0, 100_000)?;
    assert_eq!(value.len() as u64, len);
    client.clunk(reading).map(|()| value)
}

/// Makes a fid by which an attribute of this length is written.
fn writes(client: &mut Client, fid: u32, name: &str, len: u64, flags: u32) -> Called<u32> {
    let new = client.walked(fid, &[])?;
    client.call(T_XATTRCREATE, &Put::default().u32(new).s(name).u64(len).u32(flags))?;
    Ok(new)
}

fn set(client: &mut Client, fid: u32, name: &str, value: &[u8], flags: u32) -> Called<()> {
    let writing = writes(client, fid, name, value.len() as u64, flags)?;
    for (part, at) in value.chunks(50_000).zip(0..) {
        client.write(writing, at * 50_000, part)?;
    }
    client.clunk(writing)
}

#[test]
fn attributes_are_kept_listed_and_removed() {
    let served = Served::new();
    let mut client = served.client();
    let fid = client.file(ROOT, "f", b"");
    assert_eq!(get(&mut client, fid, "user.a"), Err(ENODATA));
    assert_eq!(get(&mut client, fid, "").unwrap(), []);
    let long: Vec<u8> = (0..60_000_u32).map(|at| at as u8).collect();
    set(&mut client, fid, "user.a", &long, 0).unwrap();
    set(&mut client, fid, "user.b", b"", CREATE).unwrap();
    assert!(get(&mut client, fid, "user.a").unwrap() == long);
    assert_eq!(get(&mut client, fid, "user.b").unwrap(), []);
    assert_eq!(get(&mut client, fid, "").unwrap(), b"user.a\0user.b\0");
    assert_eq!(set(&mut client, fid, "user.a", b"x", CREATE), Err(EEXIST));
    assert_eq!(set(&mut client, fid, "user.c", b"x", REPLACE), Err(ENODATA));
    set(&mut client, fid, "user.a", b"x", REPLACE).unwrap();
    // To replace by nothing is to remove.
    set(&mut client, fid, "user.b", b"", REPLACE).unwrap();
    assert_eq!(set(&mut client, fid, "user.b", b"", REPLACE), Err(ENODATA));
    assert_eq!(get(&mut client, fid, "").unwrap(), b"user.a\0");
    let (reading, len) = reads(&mut client, fid, "user.a").unwrap();
    assert_eq!((client.read(reading, 1, 10).unwrap(), len), (vec![], 1));
    assert_eq!(client.write(reading, 0, b"y"), Err(EBADF));
    assert_eq!(client.open(reading, O_RDONLY), Err(EBADF));
}

#[test]
fn a_value_has_the_length_that_was_said() {
    let served = Served::new();
    let mut client = served.client();
    let fid = client.file(ROOT, "f", b"");
    set(&mut client, fid, "user.a", b"old", 0).unwrap();
    let writing = writes(&mut client, fid, "user.a", 4, 0).unwrap();
    client.write(writing, 0, b"ab").unwrap();
    assert_eq!(client.clunk(writing), Err(EINVAL), "too little");
    assert_eq!(client.stat(writing), Err(EBADF), "gone all the same");
    let writing = writes(&mut client, fid, "user.a", 4, 0).unwrap();
    assert_eq!(client.write(writing, 0, b"abcde"), Err(EINVAL), "too much");
    assert_eq!(client.write(writing, 1, b"a"), Err(EINVAL), "a gap");
    assert_eq!(client.read(writing, 0, 9), Err(EBADF));
    assert_eq!(client.clunk(writing), Err(EINVAL), "nothing");
    assert_eq!(get(&mut client, fid, "user.a").unwrap(), b"old");
    let writing = writes(&mut client, fid, "user.a", 4, 0).unwrap();
    client.write(writing, 0, b"n").unwrap();
    client.write(writing, 1, b"ewer").unwrap_err();
    client.write(writing, 1, b"ew!").unwrap();
    assert_eq!(get(&mut client, fid, "user.a").unwrap(), b"old", "not yet");
    client.clunk(writing).unwrap();
    assert_eq!(get(&mut client, fid, "user.a").unwrap(), b"new!");
}

#[test]
fn what_is_refused() {
    let served = Served::new();
    let mut client = served.client();
    let fid = client.file(ROOT, "f", b"");
    assert_eq!(writes(&mut client, fid, "user.a", 65_537, 0), Err(ERANGE));
    assert_eq!(writes(&mut client, fid, "user.a", u64::MAX, 0), Err(ERANGE));
    assert_eq!(writes(&mut client, fid, "user.a", 1, 4), Err(EINVAL));
    assert_eq!(writes(&mut client, fid, "system.posix_acl_access", 1, 0), Err(EOPNOTSUPP));
    assert_eq!(set(&mut client, fid, "other.a", b"v", 0), Err(EOPNOTSUPP), "when it is set");
    let put = Put::default().u32(fid).s("user.a").u64(1).u32(0);
    assert_eq!(client.call(T_XATTRCREATE, &put), Err(EBADF), "it is open");
    let taken = Put::default().u32(fid).u32(ROOT).s("");
    assert_eq!(client.call(T_XATTRWALK, &taken), Err(EBADF), "a number that is taken");
}

#[test]
fn there_is_room_for_so_much() {
    let bounds = Bounds { xattr_bytes_max: 100_000, ..Bounds::default() };
    let served = Served::with(Export { bounds, ..trusting() });
    let mut client = served.client();
    let fid = client.file(ROOT, "f", b"");
    set(&mut client, fid, "user.a", &[1; 60_000], 0).unwrap();
    let (reading, _) = reads(&mut client, fid, "user.a").unwrap();
    assert_eq!(reads(&mut client, fid, "user.a"), Err(EBUSY));
    assert_eq!(writes(&mut client, fid, "user.b", 40_001, 0), Err(EBUSY));
    client.clunk(reading).unwrap();
    reads(&mut client, fid, "user.a").unwrap();
    writes(&mut client, fid, "user.b", 40_000, 0).unwrap();
}

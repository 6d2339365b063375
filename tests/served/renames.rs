//! A name that is replaced again and again, as another client of the server sees it.

use crate::support::Vault;
use crate::vault::name;
use bytes::Bytes;
use vfs::conformance::block_on;
use vfs::{
    At, Context, Cred, Dac, IfExists, Ino, RenameMode, Result, SetAttr, Stability, Vfs, WriteAt,
};

/// How often it is replaced.
const ROUNDS: u32 = 300;

fn content(number: u32) -> Vec<u8> {
    format!("version {number:05}").into_bytes()
}

/// Makes a file, writes it, and renames it over the name. Each keeps another one, so that who
/// has found it can still read it.
async fn replace<V: Vfs>(fs: &V, cx: Context<'_>, number: u32) -> Result<()> {
    let attr = SetAttr { mode: Some(0o644), ..SetAttr::default() };
    let made = fs.create(cx, Ino::ROOT, name("new"), &attr, IfExists::Fail, None).await?;
    let (ino, data) = (made.entry.attr.ino, Bytes::from(content(number)).into());
    fs.write(cx, At::Ino(ino), WriteAt::Offset(0), data, Stability::Buffered).await?;
    let other = format!("kept {number}");
    fs.link(cx, ino, Ino::ROOT, name(&other)).await?;
    let (from, to) = ((Ino::ROOT, name("new")), (Ino::ROOT, name("name")));
    fs.rename(cx, from, to, RenameMode::Replace).await.map(drop)
}

/// What the name stands for.
async fn look<V: Vfs>(fs: &V, cx: Context<'_>) -> Result<Vec<u8>> {
    let found = fs.lookup(cx, Ino::ROOT, name("name")).await?;
    let read = fs.read(cx, At::Ino(found.attr.ino), 0, 100).await?;
    Ok(read.data.into_contiguous().to_vec())
}

/// The name is always there, with a whole content, none older than one that was seen.
fn is_whole<V: Vfs>(writer: &V, reader: &V) {
    let root = Cred::root();
    let cx = Context { cred: &root, dac: Dac::Enforce, op: None };
    block_on(replace(writer, cx, 0)).unwrap();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for number in 1..=ROUNDS {
                block_on(replace(writer, cx, number)).unwrap();
            }
        });
        let (mut seen, mut count) = (content(0), 0_u32);
        while !writing.is_finished() {
            let now = block_on(look(reader, cx)).unwrap();
            assert!(now.len() == seen.len() && now >= seen, "{now:?} behind {seen:?}");
            seen = now;
            count += 1;
        }
        assert!(count > 0);
    });
    assert_eq!(block_on(look(reader, cx)).unwrap(), content(ROUNDS));
}

#[test]
fn renames_over_nfs_are_seen_whole_by_another_client() {
    let vault = Vault::new();
    let server = vault.nfs();
    is_whole(&server.client(), &server.client());
    server.stop();
    vault.check();
}

#[test]
fn renames_over_9p_are_seen_whole_by_another_client() {
    let vault = Vault::new();
    let server = vault.nine_p();
    is_whole(&server.client(&vault), &server.client(&vault));
    server.stop();
    vault.check();
}

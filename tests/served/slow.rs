//! A store that takes longer than callers over NFS are kept waiting.

use crate::support::Vault;
use crate::vault::noise;
use crate::wire::{Auth, In, Out, Wire};
use std::sync::Arc;
use std::time::Duration;
use tgcryptfs::store::{FaultOp, FaultStore, MemoryStore};
use tokio::sync::Semaphore;

const GETATTR: u32 = 1;
const READ: u32 = 6;
const WRITE: u32 = 7;
const CREATE: u32 = 8;
/// What NFS has for "try again later".
const JUKEBOX: u32 = 10_008;
/// Several blocks.
const LEN: u32 = 200_000;

/// Makes a file in the root that holds this; its handle.
fn file_with(wire: &mut Wire, root: &[u8], content: &[u8]) -> Vec<u8> {
    let make = Out::default().opaque(root).opaque(b"file").words(&[1, 1, 0o600, 0, 0, 0, 0, 0]);
    let made = wire.nfs(&Auth::root(), CREATE, &make);
    let mut made = In(&made);
    assert_eq!((made.u32(), made.bool()), (0, true));
    let file = made.opaque().to_vec();
    let write = Out::default().opaque(&file).u64(0).words(&[content.len() as u32, 2]);
    assert_eq!(wire.status(&Auth::root(), WRITE, &write.opaque(content)), 0);
    file
}

/// The data, or the status.
fn read(wire: &mut Wire, file: &[u8]) -> Result<Vec<u8>, u32> {
    let body = wire.nfs(&Auth::root(), READ, &Out::default().opaque(file).u64(0).u32(LEN));
    let mut body = In(&body);
    match body.u32() {
        0 => {}
        status => return Err(status),
    }
    if body.bool() {
        body.bytes(84);
    }
    let (_count, _is_end) = (body.u32(), body.bool());
    Ok(body.opaque().to_vec())
}

#[test]
fn a_read_of_a_slow_store_goes_on_while_its_caller_is_told_to_come_again() {
    let faulty = Arc::new(FaultStore::new(Arc::new(MemoryStore::new()), 1));
    let vault = Vault::on(faulty.clone());
    let server = vault.nfs_with(|export| export.reads_wait_max = Duration::from_millis(50));
    let mut wire = server.wire();
    let root = wire.mount(&Auth::root(), "/").unwrap();
    let content = noise(LEN as usize, 1);
    let file = file_with(&mut wire, &root, &content);
    vault.forget_what_is_here();

    let leave = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&leave);
    faulty.set_hook(Some(Arc::new(move |_, _| {
        let gate = Arc::clone(&gate);
        Box::pin(async move { drop(gate.acquire().await.unwrap()) })
    })));
    for _ in 0..3 {
        assert_eq!(read(&mut wire, &file), Err(JUKEBOX));
    }
    let root = Out::default().opaque(&root);
    assert_eq!(wire.status(&Auth::root(), GETATTR, &root), 0, "what needs no store");
    let asked = faulty.calls(FaultOp::Get);
    leave.add_permits(1);
    // The blocks behind the one that was waited for are fetched, with nobody asking.
    while faulty.calls(FaultOp::Get) < asked + 3 {
        std::thread::yield_now();
    }
    let data = loop {
        match read(&mut wire, &file) {
            Err(status) => assert_eq!(status, JUKEBOX),
            Ok(data) => break data,
        }
    };
    assert!(data == content);
    server.stop();
    vault.check();
}

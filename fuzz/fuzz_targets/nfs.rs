//! The NFS server: whatever clients send, as streams that are cut into records anyhow,
//! and as calls whose arguments begin with a handle that is good, as is the other one of
//! those that take two.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use tgcryptfs_nfs::fuzz::{Target, stream};
use vfs::model::{ManualClock, ModelFs};

type Server = Target<ModelFs>;

const NFS: u32 = 100_003;
const MOUNT: u32 = 100_005;
const PROCEDURES: u32 = 22;
const RENAME: u32 = 14;
const LINK: u32 = 15;
/// Inputs that one file system takes, so that it does not grow for ever.
const TURNS: u32 = 2000;

fn server() -> Server {
    let clock = ManualClock::new(1_800_000_000);
    Target::new(ModelFs::new(clock.ticking())).expect("there are threads")
}

thread_local! {
    static SERVER: RefCell<(Server, u32)> = RefCell::new((server(), TURNS));
}

fn answers(sent: impl FnOnce(&Server) -> Vec<u8>) -> Vec<u8> {
    SERVER.with_borrow_mut(|(current, turns)| {
        if *turns == 0 {
            std::mem::replace(current, server()).stop();
            *turns = TURNS;
        }
        *turns -= 1;
        current.answers(&sent(current)).expect("a socket works")
    })
}

/// A handle of an inode, as it stands in arguments.
fn handle(server: &Server, ino: u64) -> Vec<u8> {
    let handle = server.handle(ino);
    let len = u32::try_from(handle.len()).expect("handles are short");
    let mut opaque = len.to_be_bytes().to_vec();
    opaque.extend(handle);
    opaque.resize(opaque.len().next_multiple_of(4), 0);
    opaque
}

/// How much of the arguments comes before a second handle: nothing, or a name with its
/// length. `None` where the name is longer than all there is.
fn before_second_handle(procedure: u32, arguments: &[u8]) -> Option<usize> {
    if procedure == LINK {
        return Some(0);
    }
    let len = usize::try_from(u32::from_be_bytes(*arguments.first_chunk()?)).ok()?;
    let end = len.checked_next_multiple_of(4)?.checked_add(4)?;
    (end <= arguments.len()).then_some(end)
}

/// A call whose first handle is good. Where another follows, that is put in as well, unless
/// `second` is 0: then the arguments have one of their own, or none.
fn call(server: &Server, procedure: u32, handles: (u64, u64), arguments: &[u8]) -> Vec<u8> {
    let (first, second) = handles;
    let mut all = handle(server, first);
    let place = match procedure {
        RENAME | LINK if second > 0 => before_second_handle(procedure, arguments),
        _ => None,
    };
    let (head, tail) = arguments.split_at(place.unwrap_or(0));
    all.extend(head);
    if place.is_some() {
        all.extend(handle(server, second));
    }
    all.extend(tail);
    Server::call(NFS, procedure, &all)
}

fuzz_target!(|input: &[u8]| {
    stream(input);
    let Some((&[which, ino], arguments)) = input.split_first_chunk() else { return };
    let which = u32::from(which);
    let answers = answers(|server| match which {
        0 => arguments.to_vec(),
        1..=6 => Server::call(MOUNT, which - 1, arguments),
        _ => {
            let (second, procedure) = (which / PROCEDURES, which % PROCEDURES);
            call(server, procedure, (ino.into(), second.into()), arguments)
        }
    });
    // Of a call, the seventh word says whether it was accepted; 5 is what a panic becomes.
    if which > 0 && answers.len() >= 28 {
        assert_ne!(answers[24..28], [0, 0, 0, 5]);
    }
});

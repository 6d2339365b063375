//! The NFS server: whatever clients send, as streams that are cut into records anyhow,
//! and as calls whose arguments begin with a handle that is good.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use tgcryptfs_nfs::fuzz::{Target, stream};
use vfs::model::{ManualClock, ModelFs};

type Server = Target<ModelFs>;

const NFS: u32 = 100_003;
const MOUNT: u32 = 100_005;
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

fuzz_target!(|input: &[u8]| {
    stream(input);
    let Some((&[which, ino], arguments)) = input.split_first_chunk() else { return };
    let answers = answers(|server| match which {
        0 => arguments.to_vec(),
        1..=6 => Server::call(MOUNT, u32::from(which) - 1, arguments),
        _ => {
            let handle = server.handle(ino.into());
            let len = u32::try_from(handle.len()).expect("handles are short");
            let mut with_handle = len.to_be_bytes().to_vec();
            with_handle.extend(handle);
            with_handle.resize(with_handle.len().next_multiple_of(4), 0);
            with_handle.extend(arguments);
            Server::call(NFS, u32::from(which) % 22, &with_handle)
        }
    });
    // Of a call, the seventh word says whether it was accepted; 5 is what a panic becomes.
    if which > 0 && answers.len() >= 28 {
        assert_ne!(answers[24..28], [0, 0, 0, 5]);
    }
});

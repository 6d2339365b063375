//! Nodes of the trees that name a file's blocks.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tgcryptfs::crypto::BlockId;
use tgcryptfs::data::manifest::{Node, encode};
use tgcryptfs_fuzz::canonical;

fuzz_target!(|input: &[u8]| {
    let Some((&level, input)) = input.split_first() else { return };
    let parse = |input: &[u8]| Node::parse(BlockId([1; 32]), input.to_vec().into(), level);
    canonical(input, parse, |node| encode(level, &node.ids()));
});

//! Everything that machines tell each other, once it is opened and its signature
//! held: any member can write these bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tgcryptfs::codec::Writer;
use tgcryptfs::log::op::{Content, Group, Node, Op};
use tgcryptfs::log::record::{CheckpointRecord, Head, IncarnationRecord};
use tgcryptfs::log::segment::{Dep, Segment};
use tgcryptfs_fuzz::{canonical, canonical_part};

fuzz_target!(|input: &[u8]| {
    let Some((which, input)) = input.split_first() else { return };
    match which % 9 {
        0 => canonical(input, Segment::decode, Segment::encode),
        1 => canonical(input, Group::decode_all, |groups| {
            let mut w = Writer::new();
            groups.iter().for_each(|group| group.encode(&mut w));
            w.into_vec()
        }),
        2 => canonical(input, Head::decode, Head::encode),
        3 => canonical(input, IncarnationRecord::decode, IncarnationRecord::encode),
        4 => canonical(input, CheckpointRecord::decode, CheckpointRecord::encode),
        5 => canonical_part(input, Op::decode, Op::encode),
        6 => canonical_part(input, Content::decode, Content::encode),
        7 => canonical_part(input, Node::decode, Node::encode),
        _ => canonical_part(input, Dep::decode, Dep::encode),
    }
});

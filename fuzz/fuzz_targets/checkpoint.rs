//! Nodes and rows of checkpoints.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tgcryptfs::log::record::CheckpointRecord;
use tgcryptfs::meta::checkpoint::{Node, Row};
use tgcryptfs_fuzz::canonical;

fn row(key: &[u8], value: &[u8]) {
    if let Ok(row) = Row::decode(key, value) {
        assert_eq!((&row.key()[..], &row.value()[..]), (key, value));
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&which, input)) = input.split_first() else { return };
    match which {
        0 => {
            let Some((&len, input)) = input.split_first() else { return };
            if let Some((key, value)) = input.split_at_checked(len.into()) {
                row(key, value);
            }
        }
        1 => canonical(input, CheckpointRecord::decode, CheckpointRecord::encode),
        level => {
            if let Ok(Node::Leaf(rows)) = Node::decode(input, level - 2) {
                rows.iter().for_each(|(key, value)| row(key, value));
            }
        }
    }
});

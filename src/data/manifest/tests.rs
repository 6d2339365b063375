//! Nodes against the vectors, both ways, and against damage.

use super::*;
use crate::codec::hostile::withstands;
use crate::golden::{Vector, unhex, vectors};

fn level(vector: &serde_json::Value) -> u8 {
    vector.number("level").try_into().unwrap()
}

#[test]
fn golden_nodes() {
    for vector in vectors().items("manifest") {
        let ids = vector.items("ids").iter().map(|id| {
            let id = BlockId(unhex(id.as_str().unwrap()).try_into().unwrap());
            (id != HOLE).then_some(id)
        });
        let (ids, level): (Vec<_>, _) = (ids.collect(), level(vector));
        let bytes = vector.bytes("bytes");
        assert_eq!(encode(level, &ids), bytes);
        let id = BlockId(vector.array("id"));
        let node = Node::parse(id, bytes.into(), level).unwrap();
        assert_eq!(node.ids(), ids);
        let one_by_one: Vec<_> = (0..ids.len() as u64 + 1).map(|index| node.id(index)).collect();
        assert_eq!(one_by_one, [&ids[..], &[None]].concat());
    }
}

#[test]
fn damaged_nodes_are_refused() {
    for vector in vectors().items("manifest") {
        let level = level(vector);
        let parse = |bytes: &[u8]| Node::parse(HOLE, Bytes::copy_from_slice(bytes), level);
        withstands(&vector.bytes("bytes"), parse, |node| encode(level, &node.ids()));
    }
}

#[test]
fn nodes_have_1_to_256_ids_and_end_in_none_that_is_a_hole() {
    let parse = |ids: &[Option<BlockId>]| Node::parse(HOLE, encode(3, ids).into(), 3);
    let id = Some(BlockId([1; 32]));
    assert!(parse(&[id; 256]).is_ok());
    assert!(parse(&[id; 257]).is_err());
    assert!(parse(&[]).is_err());
    assert!(parse(&[None, id]).is_ok());
    assert!(parse(&[id, None]).is_err());
    assert!(parse(&[None]).is_err());
    let other_level = Node::parse(HOLE, encode(2, &[id]).into(), 3);
    assert!(other_level.is_err());
}

//! Checkpoint trees against the vectors, at every size, and against damage.

use super::*;
use crate::crypto::NamespaceKeys;
use crate::golden::{Vector, unhex, vectors};
use crate::log::op::{Content, Node as Kind};
use std::collections::HashMap;
use vfs::Timestamp;

fn keys() -> NamespaceKeys {
    NamespaceKeys::new(Key32::copy_of(&vectors()["keys"].array("nsk")))
}

/// The tree of `rows` and its nodes in the order in which they were made.
fn build<'a>(rows: impl IntoIterator<Item = &'a Row>) -> (Root, Vec<(BlockId, Vec<u8>)>) {
    let keys = keys();
    let mut nodes = Vec::new();
    let mut builder = TreeBuilder::new(keys.tree_key(), |node: &[u8]| {
        let id = keys.tree_id(node);
        nodes.push((id, node.to_vec()));
        Ok::<_, std::convert::Infallible>(id)
    });
    for row in rows {
        builder.push(row).unwrap();
    }
    let root = builder.finish().unwrap();
    (root, nodes)
}

/// Every row below a node, in order.
fn rows_below(nodes: &HashMap<BlockId, Vec<u8>>, id: BlockId, level: u8, found: &mut Vec<Row>) {
    match Node::decode(&nodes[&id], level).unwrap() {
        Node::Leaf(rows) => {
            found.extend(rows.iter().map(|(key, value)| Row::decode(key, value).unwrap()));
        }
        Node::Interior(below) => {
            for (_, id) in below {
                rows_below(nodes, id, level - 1, found);
            }
        }
    }
}

fn inode(ino: u64, inline_len: usize) -> Row {
    let mut inode = Inode::new(Kind::Regular, 0o644, 1, 2, Timestamp::default());
    inode.content = Content::Inline(vec![7; inline_len].into());
    Row::Inode { ino, inode }
}

fn dentry(parent: u64, name: &str, ino: u64) -> Row {
    Row::Dentry {
        parent,
        name: Bytes::copy_from_slice(name.as_bytes()),
        link: LinkId([3; 16]),
        ino,
    }
}

#[test]
fn the_tree_of_the_vectors() {
    let vector = &vectors()["checkpoint_tree"];
    let mut rows = Vec::new();
    for row in vector.items("rows") {
        let (key, value) = (row.bytes("key"), row.bytes("value"));
        let decoded = Row::decode(&key, &value).unwrap();
        assert_eq!((decoded.key(), decoded.value()), (key, value));
        rows.push(decoded);
    }
    let (root, nodes) = build(&rows);
    assert_eq!(root.id.0, vector.array("root"));
    assert_eq!(u64::from(root.level), vector.number("level"));
    assert_eq!(root.rows, rows.len() as u64);
    let theirs: HashMap<_, _> = vector
        .items("nodes")
        .iter()
        .map(|node| (BlockId(node.array("id")), node.bytes("bytes")))
        .collect();
    assert_eq!(nodes.into_iter().collect::<HashMap<_, _>>(), theirs);
}

#[test]
fn the_empty_tree_is_an_empty_leaf() {
    let (root, nodes) = build([]);
    let vector = &vectors()["checkpoint_tree"]["empty"];
    assert_eq!(root.id.0, vector.array("root"));
    assert_eq!((root.level, root.rows), (0, 0));
    assert_eq!(nodes[0].1, unhex(vector.text("bytes")));
}

#[test]
fn what_goes_in_comes_out_at_every_size() {
    for count in [1, 2, 10, 63, 64, 65, 500, 20_000] {
        let mut rows: Vec<_> = (0..count).map(|i| inode(i, (i % 50) as usize)).collect();
        rows.extend((0..count).map(|i| dentry(1, &format!("f{i:06}"), i)));
        let (root, nodes) = build(&rows);
        let nodes: HashMap<_, _> = nodes.into_iter().collect();
        let mut found = Vec::new();
        rows_below(&nodes, root.id, root.level, &mut found);
        assert_eq!(found, rows, "{count}");
    }
}

#[test]
fn large_rows_end_nodes_before_they_grow() {
    let rows: Vec<_> = (0..200).map(|i| inode(i, 3584)).collect();
    let (_, nodes) = build(&rows);
    let longest = nodes.iter().map(|(_, node)| node.len()).max().unwrap();
    assert!(longest < NODE_LEN + 4096, "{longest}");
    assert!(nodes.len() >= 200 * 3584 / (NODE_LEN + 4096));
}

#[test]
fn one_change_shares_all_but_the_nodes_on_the_way_to_it() {
    let rows: Vec<_> = (0..20_000).map(|i| dentry(1, &format!("f{i:06}"), i)).collect();
    let (before, old) = build(&rows);
    let mut changed = rows;
    changed[9_999] = dentry(1, "f009999", 77);
    let (after, new) = build(&changed);
    assert_ne!(before.id, after.id);
    let old: HashMap<_, _> = old.into_iter().collect();
    let fresh = new.iter().filter(|(id, _)| !old.contains_key(id)).count();
    assert!(fresh <= usize::from(after.level) + 1, "{fresh} of {}", new.len());
}

#[test]
fn a_node_that_is_cut_or_out_of_order_is_refused() {
    let (_, nodes) = build(&[inode(1, 5), dentry(1, "a", 2), dentry(1, "b", 3)]);
    let node = nodes.iter().map(|(_, node)| node).max_by_key(|node| node.len()).unwrap();
    assert!(Node::decode(node, 0).is_ok());
    assert!(Node::decode(node, 1).is_err(), "another level");
    for len in 0..node.len() {
        assert!(Node::decode(&node[..len], 0).is_err(), "cut to {len}");
    }
    let mut w = Writer::new();
    w.u8(TAG).u8(0).count(2).lp(b"b").lp(b"").lp(b"a").lp(b"");
    assert!(Node::decode(w.as_slice(), 0).is_err(), "out of order");
    let mut w = Writer::new();
    w.u8(TAG).u8(0).u32(u32::MAX);
    assert!(Node::decode(w.as_slice(), 0).is_err(), "more than there can be");
}

#[test]
fn rows_that_break_the_rules_are_refused() {
    let Row::Dentry { parent, link, ino, .. } = dentry(1, "a", 2) else { unreachable!() };
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'a'; 256]] {
        let row = Row::Dentry { parent, name: Bytes::copy_from_slice(name), link, ino };
        assert!(Row::decode(&row.key(), &row.value()).is_err(), "{name:?}");
    }
    let row = inode(5, 9);
    let (key, value) = (row.key(), row.value());
    assert!(Row::decode(&key, &[&value[..], b"x"].concat()).is_err(), "something behind the value");
    assert!(Row::decode(&[&key[..], b"x"].concat(), &value).is_err(), "something behind the key");
    assert!(Row::decode(&[9, 0], b"").is_err(), "an unknown kind");
}

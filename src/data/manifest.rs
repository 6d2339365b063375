//! Manifests: content-addressed trees of a file's blocks (`docs/FORMAT.md` §7).
//!
//! Nodes hold 256 ids. A change writes the nodes on the way to what changed and
//! shares all others, so its cost is logarithmic in the size of the file.

use super::blocks::{BlockType, Blocks};
use super::{Error, Result};
use crate::codec::Writer;
use crate::ids::BlockId;
use crate::log::op::{Content, DEPTH_MAX};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;

#[cfg(test)]
mod tests;

/// Ids in a node.
pub const FAN_OUT: u64 = 256;

const TAG: u8 = 0x01;
const HEADER_LEN: usize = 4;
const ID_LEN: usize = 32;
const HOLE: BlockId = BlockId([0; 32]);

/// Changes of blocks by number; `None` makes a hole.
pub type Changes = BTreeMap<u64, Option<BlockId>>;

/// Blocks below one id at `level` (0: the id is a data block's).
fn span(level: u8) -> u64 {
    FAN_OUT.saturating_pow(level.into())
}

/// The encoding of a node. `ids` are 1 to 256 and do not end in a hole.
#[must_use]
pub fn encode(level: u8, ids: &[Option<BlockId>]) -> Vec<u8> {
    let mut w = Writer::with_capacity(HEADER_LEN + ids.len() * ID_LEN);
    w.u8(TAG).u8(level).u16(ids.len() as u16);
    for id in ids {
        w.raw(&id.unwrap_or(HOLE).0);
    }
    w.into_vec()
}

/// A node, checked.
#[derive(Clone, Debug)]
pub struct Node {
    bytes: Bytes,
}

impl Node {
    /// Checks the bytes of node `id`, which is of `level`.
    pub fn parse(id: BlockId, bytes: Bytes, level: u8) -> Result<Self> {
        let malformed = Error::Node { id };
        let Some((&[tag, stored_level, n0, n1], ids)) = bytes.split_first_chunk() else {
            return Err(malformed);
        };
        let count = usize::from(u16::from_le_bytes([n0, n1]));
        let fits = (1..=FAN_OUT as usize).contains(&count) && ids.len() == count * ID_LEN;
        let fits = fits && !ids.ends_with(&HOLE.0);
        if tag != TAG || stored_level != level || !fits {
            return Err(malformed);
        }
        Ok(Self { bytes })
    }

    fn id(&self, index: u64) -> Option<BlockId> {
        let start = HEADER_LEN + index as usize * ID_LEN;
        let id = BlockId(self.bytes.get(start..start + ID_LEN)?.try_into().ok()?);
        (id != HOLE).then_some(id)
    }

    /// Every id in it; `None` is a hole.
    #[must_use]
    pub fn ids(&self) -> Vec<Option<BlockId>> {
        (0..((self.bytes.len() - HEADER_LEN) / ID_LEN) as u64).map(|i| self.id(i)).collect()
    }
}

async fn read(blocks: &Blocks, id: BlockId, level: u8) -> Result<Node> {
    Node::parse(id, blocks.get(BlockType::Tree, id).await?, level)
}

fn write(blocks: &Blocks, level: u8, ids: &[Option<BlockId>]) -> Result<BlockId> {
    blocks.add(BlockType::Tree, &encode(level, ids))
}

/// The block with number `block`; `None` is a hole.
pub async fn lookup(blocks: &Blocks, content: &Content, block: u64) -> Result<Option<BlockId>> {
    let Content::Tree { depth, root } = *content else { return Ok(None) };
    let (mut id, mut at) = (root, block);
    if at >= span(depth) {
        return Ok(None);
    }
    for level in (0..depth).rev() {
        let node = read(blocks, id, level).await?;
        let below = span(level);
        match node.id(at / below) {
            Some(next) => id = next,
            None => return Ok(None),
        }
        at %= below;
    }
    Ok(Some(id))
}

/// The first block in `range` that is not a hole.
pub async fn next_block(
    blocks: &Blocks,
    content: &Content,
    range: Range<u64>,
) -> Result<Option<u64>> {
    let Content::Tree { depth, root } = *content else { return Ok(None) };
    let mut found = None;
    visit(blocks, depth, root, 0, range, &mut |block, _| {
        found = Some(block);
        false
    })
    .await?;
    Ok(found)
}

/// Every block in `range` that is not a hole, in order.
pub async fn blocks_in(
    blocks: &Blocks,
    content: &Content,
    range: Range<u64>,
) -> Result<Vec<(u64, BlockId)>> {
    let Content::Tree { depth, root } = *content else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    visit(blocks, depth, root, 0, range, &mut |block, id| {
        found.push((block, id));
        true
    })
    .await?;
    Ok(found)
}

/// The nodes of a tree that lie above blocks in `range`, the root first.
pub async fn nodes_in(
    blocks: &Blocks,
    content: &Content,
    range: Range<u64>,
) -> Result<Vec<BlockId>> {
    let mut nodes = Vec::new();
    let Content::Tree { depth, root } = *content else { return Ok(nodes) };
    let mut level: Vec<(u64, BlockId)> = vec![(0, root)];
    for depth in (1..=depth).rev() {
        nodes.extend(level.iter().map(|(_, id)| *id));
        if depth == 1 {
            break;
        }
        let width = span(depth - 1);
        let mut below = Vec::new();
        for (first, id) in level {
            let children = read(blocks, id, depth - 1).await?.ids();
            let children = children.into_iter().enumerate();
            below.extend(children.filter_map(|(index, child)| {
                let start = first + index as u64 * width;
                let is_inside = start < range.end && range.start < start + width;
                child.filter(|_| is_inside).map(|child| (start, child))
            }));
        }
        level = below;
    }
    Ok(nodes)
}

type Visit<'a> = Pin<Box<dyn Future<Output = Result<bool>> + Send + 'a>>;

/// Calls `each` for data blocks in `range` until it says no.
fn visit<'a>(
    blocks: &'a Blocks,
    depth: u8,
    id: BlockId,
    first: u64,
    range: Range<u64>,
    each: &'a mut (dyn FnMut(u64, BlockId) -> bool + Send),
) -> Visit<'a> {
    Box::pin(async move {
        let Some(level) = depth.checked_sub(1) else {
            return Ok(!range.contains(&first) || each(first, id));
        };
        let node = read(blocks, id, level).await?;
        for (index, child) in node.ids().into_iter().enumerate() {
            let start = first + index as u64 * span(level);
            let is_outside = start >= range.end || start + span(level) <= range.start;
            let Some(child) = child.filter(|_| !is_outside) else { continue };
            if !visit(blocks, level, child, start, range.clone(), &mut *each).await? {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// Applies `changes` to a tree that is first cut to `limit` blocks. Answers the
/// new content and by how many blocks its data grew or shrank.
pub async fn update(
    blocks: &Blocks,
    content: &Content,
    limit: u64,
    changes: &Changes,
) -> Result<(Content, i64)> {
    let (old_depth, old_root) = match *content {
        Content::Tree { depth, root } => (depth, Some(root)),
        _ => (0, None),
    };
    let last_changed = changes.iter().rev().find(|(_, id)| id.is_some()).map(|(block, _)| *block);
    let mut depth = old_depth;
    while last_changed.is_some_and(|last| last >= span(depth)) && depth < DEPTH_MAX {
        depth += 1;
    }
    // A taller tree has the old one as its leftmost part.
    let mut root = old_root;
    for level in old_depth..depth {
        if let Some(below) = root {
            root = Some(write(blocks, level, &[Some(below)])?);
        }
    }
    let mut growth = 0;
    let root = rewrite(blocks, depth, root, 0, limit, changes, &mut growth).await?;
    let Some(mut root) = root else { return Ok((Content::Empty, growth)) };
    // The depth is the smallest that does: what only the leftmost child holds
    // is that child.
    while depth > 0 {
        let node = read(blocks, root, depth - 1).await?;
        match node.ids()[..] {
            [Some(only)] => (root, depth) = (only, depth - 1),
            _ => break,
        }
    }
    Ok((Content::Tree { depth, root }, growth))
}

type Rewrite<'a> = Pin<Box<dyn Future<Output = Result<Option<BlockId>>> + Send + 'a>>;

/// Rewrites the subtree of `depth` whose first block is `first`.
fn rewrite<'a>(
    blocks: &'a Blocks,
    depth: u8,
    old: Option<BlockId>,
    first: u64,
    limit: u64,
    changes: &'a Changes,
    growth: &'a mut i64,
) -> Rewrite<'a> {
    Box::pin(async move {
        let end = first.saturating_add(span(depth));
        let is_changed = changes.range(first..end).next().is_some();
        let Some(level) = depth.checked_sub(1) else {
            let kept = old.filter(|_| first < limit);
            let new = changes.get(&first).map_or(kept, |change| *change);
            *growth += i64::from(new.is_some()) - i64::from(old.is_some());
            return Ok(new);
        };
        if !is_changed && (old.is_none() || end <= limit) {
            return Ok(old);
        }
        let mut ids = match old {
            Some(id) => read(blocks, id, level).await?.ids(),
            None => Vec::new(),
        };
        let width = span(level);
        // Children that are cut away, and children that changes lie in.
        let cut_from = (limit.saturating_sub(first) / width).min(FAN_OUT);
        let mut affected: Vec<u64> = (cut_from..ids.len() as u64).collect();
        let mut at = first;
        while let Some((block, _)) = changes.range(at..end).next() {
            let child = (block - first) / width;
            affected.push(child);
            at = first + (child + 1) * width;
        }
        affected.sort_unstable();
        affected.dedup();
        for child in affected {
            if ids.len() as u64 <= child {
                ids.resize(child as usize + 1, None);
            }
            let start = first + child * width;
            let old = ids[child as usize];
            ids[child as usize] =
                rewrite(blocks, level, old, start, limit, changes, &mut *growth).await?;
        }
        while ids.last().is_some_and(Option::is_none) {
            ids.pop();
        }
        if ids.is_empty() { Ok(None) } else { write(blocks, level, &ids).map(Some) }
    })
}

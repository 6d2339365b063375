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

/// Applies `changes` to a tree of `used` blocks that is first cut to `limit` blocks.
/// Answers the new content and how many blocks it has.
pub async fn update(
    blocks: &Blocks,
    (content, used): (&Content, u64),
    limit: u64,
    changes: &Changes,
) -> Result<(Content, u64)> {
    let (old_depth, old_root, used) = match *content {
        // All of it goes: nothing of it need be read.
        Content::Tree { depth, root } if limit > 0 => (depth, Some(root), used),
        _ => (0, None, 0),
    };
    let last_changed = changes.iter().rev().find(|(_, id)| id.is_some()).map(|(block, _)| *block);
    let mut depth = old_depth;
    while last_changed.is_some_and(|last| last >= span(depth)) && depth < DEPTH_MAX {
        depth += 1;
    }
    let mut dense_end = None;
    if let Some(root) = old_root.filter(|_| limit < span(old_depth)) {
        dense_end = Some(end_of(blocks, old_depth, root).await?).filter(|end| *end == used);
    }
    // A taller tree has the old one as its leftmost part.
    let mut root = old_root;
    for level in old_depth..depth {
        if let Some(below) = root {
            root = Some(write(blocks, level, &[Some(below)])?);
        }
    }
    let mut growth = 0;
    let rewriter = Rewriter { blocks, limit, changes, dense_end };
    let root = rewriter.rewrite(depth, root, 0, &mut growth).await?;
    let used = used.saturating_add_signed(growth);
    let Some(mut root) = root else { return Ok((Content::Empty, used)) };
    // The depth is the smallest that does: what only the leftmost child holds
    // is that child.
    while depth > 0 {
        let node = read(blocks, root, depth - 1).await?;
        match node.ids()[..] {
            [Some(only)] => (root, depth) = (only, depth - 1),
            _ => break,
        }
    }
    Ok((Content::Tree { depth, root }, used))
}

/// One past the last block of a tree.
async fn end_of(blocks: &Blocks, depth: u8, root: BlockId) -> Result<u64> {
    let (mut id, mut first) = (root, 0);
    for level in (0..depth).rev() {
        let ids = read(blocks, id, level).await?.ids();
        let last = ids.iter().enumerate().rev().find_map(|(i, id)| Some((i as u64, (*id)?)));
        let (index, below) = last.ok_or(Error::Node { id })?;
        (id, first) = (below, first + index * span(level));
    }
    Ok(first + 1)
}

/// What rewriting a tree has to do.
struct Rewriter<'a> {
    blocks: &'a Blocks,
    limit: u64,
    changes: &'a Changes,
    /// Where the old tree ends, if it has no holes: then what is cut away need not
    /// be read to be counted.
    dense_end: Option<u64>,
}

type Rewrite<'a> = Pin<Box<dyn Future<Output = Result<Option<BlockId>>> + Send + 'a>>;

impl Rewriter<'_> {
    /// The number of blocks in the old subtree at `id`.
    async fn count(&self, depth: u8, id: BlockId, first: u64) -> Result<i64> {
        if let Some(end) = self.dense_end {
            return Ok(end.saturating_sub(first).min(span(depth)) as i64);
        }
        let mut count = 0;
        let mut each = |_, _| {
            count += 1;
            true
        };
        visit(self.blocks, depth, id, first, 0..u64::MAX, &mut each).await?;
        Ok(count)
    }

    /// Rewrites the subtree of `depth` whose first block is `first`.
    fn rewrite<'a>(
        &'a self,
        depth: u8,
        mut old: Option<BlockId>,
        first: u64,
        growth: &'a mut i64,
    ) -> Rewrite<'a> {
        Box::pin(async move {
            if let Some(id) = old.filter(|_| first >= self.limit) {
                *growth -= self.count(depth, id, first).await?;
                old = None;
            }
            let end = first.saturating_add(span(depth));
            let is_changed = self.changes.range(first..end).next().is_some();
            let Some(level) = depth.checked_sub(1) else {
                let new = self.changes.get(&first).map_or(old, |change| *change);
                *growth += i64::from(new.is_some()) - i64::from(old.is_some());
                return Ok(new);
            };
            if !is_changed && (old.is_none() || end <= self.limit) {
                return Ok(old);
            }
            let mut ids = match old {
                Some(id) => read(self.blocks, id, level).await?.ids(),
                None => Vec::new(),
            };
            for child in self.affected(level, first, ids.len() as u64) {
                if ids.len() as u64 <= child {
                    ids.resize(child as usize + 1, None);
                }
                let (old, start) = (ids[child as usize], first + child * span(level));
                ids[child as usize] = self.rewrite(level, old, start, &mut *growth).await?;
            }
            while ids.last().is_some_and(Option::is_none) {
                ids.pop();
            }
            if ids.is_empty() { Ok(None) } else { write(self.blocks, level, &ids).map(Some) }
        })
    }

    /// Children of a node that are cut, and those that changes lie in.
    fn affected(&self, level: u8, first: u64, children: u64) -> Vec<u64> {
        let width = span(level);
        let end = first.saturating_add(width.saturating_mul(FAN_OUT));
        let cut_from = (self.limit.saturating_sub(first) / width).min(FAN_OUT);
        let mut affected: Vec<u64> = (cut_from..children).collect();
        let mut at = first;
        while let Some((block, _)) = self.changes.range(at..end).next() {
            let child = (block - first) / width;
            affected.push(child);
            at = first + (child + 1) * width;
        }
        affected.sort_unstable();
        affected.dedup();
        affected
    }
}

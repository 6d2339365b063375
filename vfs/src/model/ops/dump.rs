//! The whole tree as a value that can be compared.

use crate::{
    At, Budget, Context, Cookie, Cred, Dac, Error, ErrorKind, Ino, Kind, Result, SeekTo, Timestamp,
    Vfs,
};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Data is compared in cells of this many bytes; a cell of zeros is a hole.
const CELL: usize = 4096;
/// Bytes read at a time; a multiple of [`CELL`].
const READ_LEN: u32 = 256 << 10;

/// Everything below the root, by path; the root itself is the empty path.
pub type Tree = BTreeMap<Vec<u8>, Node>;

/// One name of a [`Tree`] and what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its kind.
    pub kind: Kind,
    /// Permission, set-id and sticky bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names.
    pub nlink: u32,
    /// Length.
    pub size: u64,
    /// Access, modification and change time, when asked for.
    pub times: Option<[Timestamp; 3]>,
    /// The first path, in order, that names the same inode, if that is another.
    pub same_as: Option<Vec<u8>>,
    /// Extended attributes.
    pub xattrs: BTreeMap<Bytes, Bytes>,
    /// What is in it; only at the first path of an inode.
    pub content: Content,
}

/// What an inode holds.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// The cells of a file that are not all zero, by offset, the last zeros cut.
    File(BTreeMap<u64, Vec<u8>>),
    /// The target of a symbolic link.
    Symlink(Bytes),
    /// Nothing to compare.
    Other,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // Whole files would drown the difference that is being looked for.
            Self::File(cells) => f
                .debug_map()
                .entries(cells.iter().map(|(at, cell)| (at, (cell.len(), checksum(cell)))))
                .finish(),
            Self::Symlink(target) => f.debug_tuple("Symlink").field(target).finish(),
            Self::Other => f.write_str("Other"),
        }
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()))
}

/// Walks the whole tree as root.
pub async fn dump<V: Vfs>(fs: &V, with_times: bool) -> Result<Tree> {
    let cred = Cred::root();
    let cx = Context { cred: &cred, dac: Dac::Delegated, op: None };
    let mut tree = Tree::new();
    let mut first_paths: BTreeMap<Ino, Vec<u8>> = BTreeMap::new();
    let mut pending = BTreeMap::from([(Vec::new(), Ino::ROOT)]);
    // In order of paths, so that the first path of an inode is met first.
    while let Some((path, ino)) = pending.pop_first() {
        let attr = fs.getattr(cx, At::Ino(ino)).await?.attr;
        let same_as = first_paths.get(&ino).cloned();
        let content = match attr.kind {
            _ if same_as.is_some() => Content::Other,
            Kind::Regular => Content::File(cells(fs, cx, ino, attr.size).await?),
            Kind::Symlink => Content::Symlink(fs.readlink(cx, ino).await?),
            _ => Content::Other,
        };
        if attr.kind == Kind::Directory {
            if same_as.is_some() {
                return Err(Error::because(ErrorKind::Corrupt, "a directory has two names"));
            }
            for (name, ino) in children(fs, cx, ino).await? {
                let path = [&path[..], b"/", &name].concat();
                if pending.insert(path, ino).is_some() {
                    return Err(Error::because(ErrorKind::Corrupt, "a name is listed twice"));
                }
            }
        }
        let mut xattrs = BTreeMap::new();
        for name in fs.xattrs(cx, ino).await? {
            let value = fs.xattr(cx, ino, &name).await?;
            xattrs.insert(name, value);
        }
        first_paths.entry(ino).or_insert_with(|| path.clone());
        let node = Node {
            kind: attr.kind,
            mode: attr.mode,
            uid: attr.uid,
            gid: attr.gid,
            nlink: attr.nlink,
            size: attr.size,
            times: with_times.then_some([attr.atime, attr.mtime, attr.ctime]),
            same_as,
            xattrs,
            content,
        };
        tree.insert(path, node);
    }
    Ok(tree)
}

async fn children<V: Vfs>(fs: &V, cx: Context<'_>, dir: Ino) -> Result<Vec<(Bytes, Ino)>> {
    let budget = Budget { entries: 1000, name_bytes: 1 << 20, with_attr: false };
    let (mut found, mut after) = (Vec::new(), Cookie::default());
    loop {
        let page = fs.readdir(cx, At::Ino(dir), after, budget).await?;
        after = page.entries.last().map_or(after, |entry| entry.cookie);
        found.extend(page.entries.into_iter().map(|entry| (entry.name, entry.ino)));
        if page.end {
            return Ok(found);
        }
    }
}

async fn cells<V: Vfs>(
    fs: &V,
    cx: Context<'_>,
    ino: Ino,
    size: u64,
) -> Result<BTreeMap<u64, Vec<u8>>> {
    let mut cells = BTreeMap::new();
    let mut offset = 0;
    loop {
        match fs.seek(cx, At::Ino(ino), offset, SeekTo::Data).await {
            // Back to the start of the cell; what is before the data is zeros.
            Ok(found) => offset = found / CELL as u64 * CELL as u64,
            Err(error) if error.kind() == ErrorKind::NoSuchOffset => return Ok(cells),
            Err(error) => return Err(error),
        }
        let read = fs.read(cx, At::Ino(ino), offset, READ_LEN).await?;
        let data = read.data.into_contiguous();
        for cell in data.chunks(CELL) {
            let len = cell.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            if len > 0 {
                cells.insert(offset, cell[..len].to_vec());
            }
            offset += cell.len() as u64;
        }
        if read.eof || data.is_empty() || offset >= size {
            return Ok(cells);
        }
    }
}

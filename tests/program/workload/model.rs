//! A directory of a writer in memory: names, what they lead to, which are one file.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Of a file, in a vault as it is made by default.
const BLOCK: usize = 128 << 10;

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    Symlink(String),
    File { data: Vec<u8>, label: Option<String> },
}

impl Node {
    pub(super) fn empty_file() -> Self {
        Self::File { data: Vec::new(), label: None }
    }
}

/// Names, relative to the directory, and what they lead to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    names: BTreeMap<String, u64>,
    nodes: BTreeMap<u64, Node>,
}

impl Tree {
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.names.get(name).map(|number| &self.nodes[number])
    }

    /// The content of a file.
    pub(super) fn data(&self, name: &str) -> Option<&[u8]> {
        match self.get(name) {
            Some(Node::File { data, .. }) => Some(data),
            _ => None,
        }
    }

    /// Whether two names lead to one file.
    pub(super) fn is_same(&self, one: &str, two: &str) -> bool {
        self.names.get(one) == self.names.get(two)
    }

    /// Whether a file has no other name.
    pub(super) fn is_alone(&self, name: &str) -> bool {
        self.names.values().filter(|number| **number == self.names[name]).count() == 1
    }

    /// Whether a block of a file has nothing but zeros.
    pub(super) fn has_hole(&self, name: &str) -> bool {
        let blocks = self.data(name).unwrap_or_default().chunks(BLOCK);
        blocks.into_iter().any(|block| block.iter().all(|byte| *byte == 0))
    }

    pub(super) fn is_empty_dir(&self, name: &str) -> bool {
        let below = format!("{name}/");
        let mut names = self.names();
        self.get(name) == Some(&Node::Dir) && !names.any(|other| other.starts_with(&below))
    }

    pub(super) fn add(&mut self, name: &str, node: Node) {
        let number = self.nodes.keys().next_back().map_or(0, |last| last + 1);
        self.nodes.insert(number, node);
        self.names.insert(name.to_owned(), number);
    }

    pub(super) fn change_data(&mut self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        match self.nodes.get_mut(&self.names[name]) {
            Some(Node::File { data, .. }) => change(data),
            other => panic!("{name} is {other:?}"),
        }
    }

    pub(super) fn write(&mut self, name: &str, offset: usize, part: &[u8]) {
        self.change_data(name, |data| {
            data.resize(data.len().max(offset + part.len()), 0);
            data[offset..offset + part.len()].copy_from_slice(part);
        });
    }

    pub(super) fn label(&mut self, name: &str, text: &str) {
        match self.nodes.get_mut(&self.names[name]) {
            Some(Node::File { label, .. }) => *label = Some(text.to_owned()),
            other => panic!("{name} is {other:?}"),
        }
    }

    pub(super) fn link(&mut self, from: &str, to: &str) {
        self.names.insert(to.to_owned(), self.names[from]);
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.names.remove(name);
        self.nodes.retain(|number, _| self.names.values().any(|used| used == number));
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) {
        // Names of one file stay as they are, by POSIX.
        if self.is_same(from, to) {
            return;
        }
        let below = format!("{from}/");
        let is_moved = |name: &String| name == from || name.starts_with(&below);
        let moved: Vec<String> = self.names.keys().filter(|name| is_moved(name)).cloned().collect();
        for name in moved {
            let number = self.names.remove(&name).unwrap();
            self.names.insert(format!("{to}{}", &name[from.len()..]), number);
        }
        self.nodes.retain(|number, _| self.names.values().any(|used| used == number));
    }

    /// Whether nobody who looks can tell them apart.
    pub(super) fn shows_as(&self, other: &Self) -> bool {
        let first_name = |tree: &Self, name: &str| {
            let number = tree.names[name];
            tree.names.iter().find(|(_, other)| **other == number).map(|(name, _)| name.clone())
        };
        self.names.keys().eq(other.names.keys())
            && self.names().all(|name| self.get(name) == other.get(name))
            && self.names().all(|name| first_name(self, name) == first_name(other, name))
    }
}

/// Reads a directory, every byte of it.
pub(super) fn read_tree(root: &Path) -> Tree {
    let (mut tree, mut left) = (Tree::default(), vec![root.to_owned()]);
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.unwrap().path();
            let data = fs::symlink_metadata(&path).unwrap();
            let node = match () {
                () if data.is_dir() => {
                    left.push(path.clone());
                    Node::Dir
                }
                () if data.is_symlink() => {
                    Node::Symlink(fs::read_link(&path).unwrap().to_str().unwrap().to_owned())
                }
                () => read_file(&path),
            };
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            tree.nodes.insert(data.ino(), node);
            tree.names.insert(name, data.ino());
        }
    }
    tree
}

fn read_file(path: &Path) -> Node {
    let data = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut label = vec![0; 256];
    let label = match rustix::fs::getxattr(path, "user.label", &mut label[..]) {
        Err(rustix::io::Errno::NODATA) => None,
        len => Some(String::from_utf8(label[..len.unwrap()].to_vec()).unwrap()),
    };
    Node::File { data, label }
}

//! What is on a disk, what was done to it step by step, and what a power cut may make
//! of that.
//!
//! The rules are harsher than any journaling file system's:
//!
//! * Bytes are durable once an `fsync` of their file has succeeded. Of what was written
//!   since, each sector may be there or not, and a write may be torn between sectors.
//! * Names are durable once an `fsync` of their directory has succeeded, and by nothing
//!   else: an `fsync` of a new file does not keep its name. Of what was done to names
//!   since, either a beginning is there or any part, a rename being one step.
//! * After an `fsync` of a file that failed, what it should have kept is there in part,
//!   and no later `fsync` makes up for that, though everybody can still read it: it has
//!   to be written again.

use crate::program::support::Numbers;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// What a disk writes as a whole.
const SECTOR: usize = 512;
/// What the kernel writes together when nothing goes wrong.
const PAGE: usize = 4096;

/// A file or directory, for as long as the disk lives.
pub(crate) type Id = u64;
/// The directory at the top.
pub(crate) const ROOT: Id = 1;

/// A file, directory, link or socket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    /// With the bits that say what it is.
    pub(crate) mode: u32,
    pub(crate) data: Vec<u8>,
    pub(crate) names: BTreeMap<OsString, Id>,
}

/// Everything on a disk, also what no name leads to.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) nodes: BTreeMap<Id, Node>,
}

/// One thing done to a disk.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Something that no name leads to yet; `data` is where a link leads.
    Make {
        id: Id,
        mode: u32,
        data: Bytes,
    },
    Write {
        id: Id,
        offset: usize,
        data: Bytes,
    },
    Cut {
        id: Id,
        len: usize,
    },
    Mode {
        id: Id,
        mode: u32,
    },
    Name {
        dir: Id,
        name: OsString,
        id: Id,
    },
    Unname {
        dir: Id,
        name: OsString,
    },
    Rename {
        id: Id,
        from: (Id, OsString),
        to: (Id, OsString),
    },
    Sync {
        id: Id,
    },
    SyncFailed {
        id: Id,
    },
}

impl Step {
    /// Whether an `fsync` of `id` makes it durable.
    fn is_of(&self, id: Id) -> bool {
        match self {
            Self::Write { id: file, .. } | Self::Cut { id: file, .. } => *file == id,
            Self::Name { dir, .. } | Self::Unname { dir, .. } => *dir == id,
            Self::Rename { from, to, .. } => from.0 == id || to.0 == id,
            _ => false,
        }
    }

    fn is_of_names(&self) -> bool {
        matches!(self, Self::Name { .. } | Self::Unname { .. } | Self::Rename { .. })
    }
}

impl Image {
    /// An empty disk.
    pub(crate) fn empty() -> Self {
        let root = Node { mode: libc::S_IFDIR | 0o755, ..Node::default() };
        Self { nodes: BTreeMap::from([(ROOT, root)]) }
    }

    /// Whether a file is found under this name in any directory.
    pub(crate) fn is_named(&self, id: Id, name: &str) -> bool {
        self.nodes.values().any(|dir| dir.names.get(OsStr::new(name)) == Some(&id))
    }

    fn names(&mut self, dir: Id) -> &mut BTreeMap<OsString, Id> {
        &mut self.nodes.get_mut(&dir).unwrap().names
    }

    pub(crate) fn apply(&mut self, step: &Step) {
        match step {
            Step::Make { id, mode, data } => {
                let (mode, data) = (*mode, data.to_vec());
                self.nodes.insert(*id, Node { mode, data, names: BTreeMap::new() });
            }
            Step::Write { id, offset, data } => {
                let file = &mut self.nodes.get_mut(id).unwrap().data;
                file.resize(file.len().max(offset + data.len()), 0);
                file[*offset..offset + data.len()].copy_from_slice(data);
            }
            Step::Cut { id, len } => self.nodes.get_mut(id).unwrap().data.resize(*len, 0),
            Step::Mode { id, mode } => self.nodes.get_mut(id).unwrap().mode = *mode,
            Step::Name { dir, name, id } => drop(self.names(*dir).insert(name.clone(), *id)),
            Step::Unname { dir, name } => drop(self.names(*dir).remove(name)),
            Step::Rename { id, from, to } => {
                self.names(from.0).remove(&from.1);
                self.names(to.0).insert(to.1.clone(), *id);
            }
            Step::Sync { .. } | Step::SyncFailed { .. } => {}
        }
    }
}

/// How much of what is not durable a crash leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Left {
    /// All of it: the process was killed.
    All,
    Nothing,
    /// What was done first, the last write torn.
    Beginning,
    /// Any part of it.
    AnyPart,
}

impl Left {
    /// How the power may be cut.
    pub(crate) const CUTS: [Self; 4] =
        [Self::AnyPart, Self::Beginning, Self::Nothing, Self::AnyPart];
}

/// A disk that is taken through its past.
#[derive(Debug)]
pub(crate) struct Replay {
    durable: Image,
    /// What no `fsync` has made durable, in order.
    pending: Vec<Step>,
    draw: Numbers,
    /// Which syncs do nothing, to see who misses them.
    pub(crate) left_out: Option<LeftOut>,
}

/// Syncs that a program might have forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeftOut {
    Files,
    Dirs,
}

impl Replay {
    pub(crate) fn new(start: Image, seed: u64) -> Self {
        Self { durable: start, pending: Vec::new(), draw: Numbers::new(seed), left_out: None }
    }

    /// Whether a sync is one of those that do nothing.
    fn is_left_out(&self, id: Id) -> bool {
        let is_dir = self.durable.nodes[&id].mode & libc::S_IFMT == libc::S_IFDIR;
        self.left_out == Some(if is_dir { LeftOut::Dirs } else { LeftOut::Files })
    }

    pub(crate) fn push(&mut self, step: &Step) {
        match step {
            Step::Make { .. } | Step::Mode { .. } => self.durable.apply(step),
            Step::Sync { id } if self.is_left_out(*id) => {}
            Step::Sync { id } | Step::SyncFailed { id } => {
                let is_kept = matches!(step, Step::Sync { .. });
                let (of, others) = std::mem::take(&mut self.pending)
                    .into_iter()
                    .partition(|step: &Step| step.is_of(*id) && (is_kept || !step.is_of_names()));
                self.pending = others;
                let kept = if is_kept { of } else { any_part(&of, &mut self.draw) };
                kept.iter().for_each(|step| self.durable.apply(step));
            }
            other => self.pending.push(other.clone()),
        }
    }

    /// Steps that no `fsync` has made durable.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The disk as a crash now may leave it.
    pub(crate) fn crash(&mut self, left: Left) -> Image {
        let draw = &mut self.draw;
        let kept = match left {
            Left::All => self.pending.clone(),
            Left::Nothing => Vec::new(),
            Left::Beginning => beginning(&self.pending, draw),
            Left::AnyPart => any_part(&self.pending, draw),
        };
        let mut image = self.durable.clone();
        kept.iter().for_each(|step| image.apply(step));
        image
    }
}

fn beginning(steps: &[Step], draw: &mut Numbers) -> Vec<Step> {
    let count = draw.below(steps.len() as u64 + 1) as usize;
    let mut kept = steps[..count].to_vec();
    if let Some(Step::Write { id, offset, data }) = steps.get(count) {
        let len = draw.below(data.len().div_ceil(SECTOR) as u64) as usize * SECTOR;
        kept.push(Step::Write { id: *id, offset: *offset, data: data.slice(..len) });
    }
    kept
}

fn any_part(steps: &[Step], draw: &mut Numbers) -> Vec<Step> {
    let percent = [10, 50, 90][draw.below(3) as usize];
    let is_kept = |draw: &mut Numbers| draw.below(100) < percent;
    let unit = if draw.below(2) == 0 { PAGE } else { SECTOR };
    // In order, or in any.
    let names = steps.iter().filter(|step| step.is_of_names()).count() as u64;
    let mut names_left = (draw.below(2) == 0).then(|| draw.below(names + 1));
    let mut kept = Vec::new();
    for step in steps {
        match step {
            Step::Write { id, offset, data } => {
                let mut at = 0;
                while at < data.len() {
                    let end = data.len().min(at + unit - (offset + at) % unit);
                    if is_kept(draw) {
                        let (offset, data) = (offset + at, data.slice(at..end));
                        kept.push(Step::Write { id: *id, offset, data });
                    }
                    at = end;
                }
            }
            step if step.is_of_names() && names_left.is_some() => {
                let left = names_left.unwrap_or_default();
                if left > 0 {
                    kept.push(step.clone());
                }
                names_left = Some(left.saturating_sub(1));
            }
            step if is_kept(draw) => kept.push(step.clone()),
            _ => {}
        }
    }
    kept
}

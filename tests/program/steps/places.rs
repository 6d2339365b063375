//! Places where a crash is worth a try, told from what was done to the disk: nothing in
//! the program names them, and none can go unnoticed.

use crate::program::disk::{Id, Image, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

/// A step that something important is before or behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A frame goes to the database's log.
    LogAppended,
    LogSynced,
    /// The log goes to the database.
    DatabaseWritten,
    PackAppended,
    PackSynced,
    /// A pack has its directory, and its last length.
    PackClosed,
    PackSent,
    SegmentSent,
    CheckpointNodesSent,
    CheckpointRecordSent,
    HeadSent,
    PackMovedToCache,
    HeaderWritten,
    OldHeaderRemoved,
}

/// Where a write and its fsync can be cut short.
pub(super) const OF_A_WRITE: [Place; 4] =
    [Place::LogAppended, Place::LogSynced, Place::PackAppended, Place::PackSynced];

/// Where an upload can be.
pub(super) const OF_AN_UPLOAD: [Place; 10] = [
    Place::LogAppended,
    Place::LogSynced,
    Place::DatabaseWritten,
    Place::PackClosed,
    Place::PackSent,
    Place::SegmentSent,
    Place::CheckpointNodesSent,
    Place::CheckpointRecordSent,
    Place::HeadSent,
    Place::PackMovedToCache,
];

/// Where a change of the ways into a vault can be that was changed often before.
pub(super) const OF_A_LATER_HEADER: [Place; 2] = [Place::HeaderWritten, Place::OldHeaderRemoved];

/// A disk that is followed through its past, with what its files are.
struct Past {
    image: Image,
    /// Where a file was named last.
    parents: BTreeMap<Id, (Id, OsString)>,
    /// Files that were made as packs, and as packs of a checkpoint's nodes.
    packs: BTreeSet<Id>,
    nodes: BTreeSet<Id>,
    found: BTreeMap<Place, Vec<usize>>,
    /// Objects that came to the store and are none of these.
    others: Vec<usize>,
}

/// All places among steps, each with the numbers of its steps.
pub(super) fn find(start: &Image, steps: &[Step]) -> BTreeMap<Place, Vec<usize>> {
    let mut past = Past {
        image: start.clone(),
        parents: BTreeMap::new(),
        packs: BTreeSet::new(),
        nodes: BTreeSet::new(),
        found: BTreeMap::new(),
        others: Vec::new(),
    };
    for (dir, node) in &start.nodes {
        for (name, id) in &node.names {
            past.parents.insert(*id, (*dir, name.clone()));
        }
    }
    // Once all directories have their names.
    for (dir, node) in &start.nodes {
        node.names.values().for_each(|id| past.note_kind(*dir, *id));
    }
    for (at, step) in steps.iter().enumerate() {
        past.image.apply(step);
        if let Some(place) = past.place(at, step) {
            past.found.entry(place).or_default().push(at);
        }
    }
    past.sort_others();
    past.found
}

impl Past {
    /// From the top of the disk on.
    fn path(&self, mut id: Id) -> String {
        let mut parts = Vec::new();
        while let Some((dir, name)) = self.parents.get(&id) {
            parts.push(name.to_string_lossy());
            id = *dir;
        }
        parts.reverse();
        parts.join("/")
    }

    /// Notes what a file is that is made in a directory.
    fn note_kind(&mut self, dir: Id, id: Id) {
        let kind = match self.parents.get(&dir).and_then(|(_, name)| name.to_str()) {
            Some("unsent") => &mut self.packs,
            Some("nodes") => &mut self.nodes,
            _ => return,
        };
        kind.insert(id);
    }

    fn place(&mut self, at: usize, step: &Step) -> Option<Place> {
        match step {
            Step::Name { dir, name, id } => {
                self.parents.insert(*id, (*dir, name.clone()));
                self.note_kind(*dir, *id);
                None
            }
            Step::Rename { id, from, to } => {
                let (old, new) = (self.path(from.0), self.path(to.0));
                self.parents.insert(*id, to.clone());
                match () {
                    () if old == "store/.tmp" => self.sent(at, *id, &to.1),
                    () if old.ends_with("/unsent") && new.ends_with("/packs") => {
                        Some(Place::PackMovedToCache)
                    }
                    () => None,
                }
            }
            Step::Unname { dir, name } => {
                let is_header = is_header(name) && self.path(*dir) == "store";
                is_header.then_some(Place::OldHeaderRemoved)
            }
            Step::Write { id, .. } if self.packs.contains(id) => Some(Place::PackAppended),
            Step::Cut { id, .. } if self.packs.contains(id) => Some(Place::PackClosed),
            Step::Sync { id } if self.packs.contains(id) => Some(Place::PackSynced),
            Step::Write { id, .. } if self.path(*id).ends_with("/state.db") => {
                Some(Place::DatabaseWritten)
            }
            Step::Write { id, .. } if self.is_log(*id) => Some(Place::LogAppended),
            Step::Sync { id } if self.is_log(*id) => Some(Place::LogSynced),
            _ => None,
        }
    }

    fn is_log(&self, id: Id) -> bool {
        self.path(id).ends_with("/state.db-wal")
    }

    /// An object has come to the store: packs are files of the machine first, linked or
    /// copied.
    fn sent(&mut self, at: usize, id: Id, name: &OsStr) -> Option<Place> {
        let nodes = &self.image.nodes;
        let is_one_of =
            |files: &BTreeSet<Id>| files.iter().any(|file| nodes[file].data == nodes[&id].data);
        match () {
            () if is_header(name) => Some(Place::HeaderWritten),
            () if is_one_of(&self.nodes) => Some(Place::CheckpointNodesSent),
            () if is_one_of(&self.packs) => Some(Place::PackSent),
            () => {
                self.others.push(at);
                None
            }
        }
    }

    /// What else is sent has names that tell nothing, but an order: segments, behind the
    /// nodes of a checkpoint its record, and the head.
    fn sort_others(&mut self) {
        let nodes = self.found.get(&Place::CheckpointNodesSent).and_then(|nodes| nodes.first());
        let Some(nodes) = nodes.copied() else { return };
        let (before, after) = self.others.split_at(self.others.partition_point(|at| *at < nodes));
        let behind = [Place::CheckpointRecordSent, Place::HeadSent].into_iter().zip(after);
        for (place, at) in before.iter().map(|at| (Place::SegmentSent, at)).chain(behind) {
            self.found.entry(place).or_default().push(*at);
        }
    }
}

fn is_header(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with("vault.")
}

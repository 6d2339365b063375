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
    PackDroppedFromCache,
    HeaderWritten,
    OldHeaderRemoved,
    MembershipSent,
    /// With it a machine has a life, whose log others can find.
    IncarnationSent,
    /// Who the machine is.
    IdentityWritten,
    /// Which header it holds the store to.
    PinWritten,
    /// Which ends of logs it holds the store to.
    AnchorsWritten,
    CacheMarkWritten,
    CacheSetAside,
    /// The database has lost the name under which it is looked for.
    StateSetAside,
    PackSetAside,
    DatabaseMade,
    /// A frame goes to the log of a database that is being made from the store.
    NewDatabaseFilled,
}

/// Where making a vault can be cut short.
pub(super) const OF_INIT: [Place; 4] =
    [Place::MembershipSent, Place::IdentityWritten, Place::HeaderWritten, Place::PinWritten];

/// Where any change of the ways into a vault can be.
pub(super) const OF_A_HEADER: [Place; 2] = [Place::HeaderWritten, Place::PinWritten];

/// Where joining a vault can be.
pub(super) const OF_JOINING: [Place; 7] = [
    Place::PinWritten,
    Place::IdentityWritten,
    Place::MembershipSent,
    Place::DatabaseMade,
    Place::NewDatabaseFilled,
    Place::IncarnationSent,
    Place::AnchorsWritten,
];

/// Where taking in what others wrote can be.
pub(super) const OF_CATCHING_UP: [Place; 3] =
    [Place::LogAppended, Place::LogSynced, Place::AnchorsWritten];

/// Where setting the local state aside and making it again can be.
pub(super) const OF_A_REBUILD: [Place; 5] = [
    Place::CacheSetAside,
    Place::StateSetAside,
    Place::DatabaseMade,
    Place::NewDatabaseFilled,
    Place::IncarnationSent,
];

/// Where the same can be, with something that was not uploaded.
pub(super) const OF_A_FORCED_REBUILD: [Place; 6] = [
    Place::CacheSetAside,
    Place::StateSetAside,
    Place::PackSetAside,
    Place::DatabaseMade,
    Place::NewDatabaseFilled,
    Place::IncarnationSent,
];

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

/// Bytes of a membership record of a few machines (`docs/FORMAT.md`): salt, owner's wrap,
/// sixteen places for others, and a sealed body of the least length. Nothing else that is
/// sealed, nor a pack, is as long: lengths are rounded, and this is none of the results.
const MEMBERSHIP_LEN: usize = 32 + 124 + 1280 + 92 + 1024;

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
    /// Whether the database was made a moment ago: nothing has been sent since.
    is_database_new: bool,
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
        is_database_new: false,
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
                // What is set aside keeps its name, in a directory with an ending.
                let is_made = name == "state.db" && !is_aside(&self.path(*dir));
                self.is_database_new |= is_made;
                is_made.then_some(Place::DatabaseMade)
            }
            Step::Rename { id, from, to } => {
                let place = self.renamed(at, *id, from, to);
                self.parents.insert(*id, to.clone());
                place
            }
            Step::Unname { dir, name } => self.unnamed(*dir, name),
            Step::Write { id, .. } if self.packs.contains(id) => Some(Place::PackAppended),
            Step::Cut { id, .. } if self.packs.contains(id) => Some(Place::PackClosed),
            Step::Sync { id } if self.packs.contains(id) => Some(Place::PackSynced),
            Step::Write { id, .. } if self.path(*id).ends_with("/state.db") => {
                Some(Place::DatabaseWritten)
            }
            Step::Write { id, .. } if self.is_log(*id) => {
                if self.is_database_new {
                    self.found.entry(Place::NewDatabaseFilled).or_default().push(at);
                }
                Some(Place::LogAppended)
            }
            Step::Sync { id } if self.is_log(*id) => Some(Place::LogSynced),
            _ => None,
        }
    }

    fn renamed(
        &mut self,
        at: usize,
        id: Id,
        from: &(Id, OsString),
        to: &(Id, OsString),
    ) -> Option<Place> {
        let (old, new) = (self.path(from.0), self.path(to.0));
        if old == "store/.tmp" {
            return self.sent(at, id, &to.1);
        }
        match to.1.to_str() {
            Some("machine") => Some(Place::IdentityWritten),
            Some("pin") => Some(Place::PinWritten),
            Some("anchors") => Some(Place::AnchorsWritten),
            Some("cache-mark") => Some(Place::CacheMarkWritten),
            _ if old.ends_with("/unsent") && new.ends_with("/packs") => {
                Some(Place::PackMovedToCache)
            }
            // The one directory that is renamed.
            _ if self.image.nodes[&id].mode & libc::S_IFMT == libc::S_IFDIR => {
                Some(Place::CacheSetAside)
            }
            _ => None,
        }
    }

    fn unnamed(&self, dir: Id, name: &OsStr) -> Option<Place> {
        let path = self.path(dir);
        match () {
            () if path == "store" && is_header(name) => Some(Place::OldHeaderRemoved),
            () if name == "state.db" => Some(Place::StateSetAside),
            () if path.ends_with("/unsent") => Some(Place::PackSetAside),
            () if path.ends_with("/packs") => Some(Place::PackDroppedFromCache),
            () => None,
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
            () if nodes[&id].data.len() == MEMBERSHIP_LEN => Some(Place::MembershipSent),
            () if is_one_of(&self.nodes) => Some(Place::CheckpointNodesSent),
            () if is_one_of(&self.packs) => Some(Place::PackSent),
            // A life is told of before anything of it.
            () if std::mem::take(&mut self.is_database_new) => Some(Place::IncarnationSent),
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

/// Whether a directory of a machine is what was set aside: it has an ending then.
fn is_aside(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.contains('.'))
}

fn is_header(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with("vault.")
}

//! What a client's numbers stand for.
//!
//! A fid refers to an inode, and to an open handle once it is opened. It is never
//! changed: what opens it puts another in its place, unless somebody else did so
//! meanwhile. So a request holds what it began with, and no lock.

use crate::identity::Identity;
use crate::places::{Place, Places};
use crate::xattrs::{Reading, Writing};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use vfs::{Cred, ErrorKind, Ino, Kind, Result, Stability};

/// Somebody in a tree.
#[derive(Debug)]
pub(crate) struct Attach {
    pub(crate) identity: Identity,
    /// The directory above which there is nothing.
    pub(crate) root: Ino,
}

/// The name by which an inode was found, and the directory it was found in.
pub(crate) type Found = Option<(Ino, Box<[u8]>)>;

/// What a fid is.
pub(crate) struct Fid<H> {
    pub(crate) attach: Arc<Attach>,
    pub(crate) ino: Ino,
    pub(crate) kind: Kind,
    /// Only for messages that name a fid where they mean a name.
    pub(crate) found: Mutex<Found>,
    pub(crate) role: Role<H>,
}

/// What a fid is good for.
pub(crate) enum Role<H> {
    /// Walking and asking.
    Named,
    /// Reading and writing.
    Open(Opened<H>),
    /// Reading an extended attribute, or the list of them.
    XattrRead(Reading),
    /// Writing an extended attribute.
    XattrWrite(Writing),
}

/// An open file or directory.
pub(crate) struct Opened<H> {
    pub(crate) handle: H,
    pub(crate) writes: bool,
    /// Writes go to the end, wherever the client thinks it is.
    pub(crate) appends: bool,
    /// How safe data is when a write is answered.
    pub(crate) stability: Stability,
    /// Whether locks were taken through it.
    pub(crate) has_locked: AtomicBool,
    /// Its place among what may be open.
    pub(crate) _place: Place,
}

impl<H> Fid<H> {
    pub(crate) fn cred(&self) -> &Cred {
        self.attach.identity.cred()
    }

    /// The handle, if the fid is open.
    pub(crate) fn opened(&self) -> Option<&Opened<H>> {
        match &self.role {
            Role::Open(opened) => Some(opened),
            _ => None,
        }
    }

    /// Another fid for the same inode.
    pub(crate) fn with_role(&self, role: Role<H>) -> Self {
        Self {
            attach: Arc::clone(&self.attach),
            ino: self.ino,
            kind: self.kind,
            found: Mutex::new(self.found.lock().clone()),
            role,
        }
    }
}

/// A fid, and its place among all that may be there.
struct Numbered<H> {
    fid: Arc<Fid<H>>,
    _place: Place,
}

/// The fids of one connection.
pub(crate) struct Fids<H> {
    fids: Mutex<HashMap<u32, Numbered<H>>>,
    places: Arc<Places>,
}

fn unknown() -> vfs::Error {
    ErrorKind::BadHandle.into()
}

impl<H> Fids<H> {
    pub(crate) fn new(places: Arc<Places>) -> Self {
        Self { fids: Mutex::default(), places }
    }

    pub(crate) fn get(&self, number: u32) -> Result<Arc<Fid<H>>> {
        let fids = self.fids.lock();
        fids.get(&number).map(|found| Arc::clone(&found.fid)).ok_or_else(unknown)
    }

    /// Adds a fid under a number that is free.
    pub(crate) fn insert(&self, number: u32, fid: Fid<H>) -> Result<()> {
        match self.fids.lock().entry(number) {
            Entry::Occupied(_) => Err(unknown()),
            Entry::Vacant(free) => {
                free.insert(Numbered { _place: self.places.take()?, fid: Arc::new(fid) });
                Ok(())
            }
        }
    }

    /// Puts `new` in the place of `old`, if that is still there.
    pub(crate) fn replace(&self, number: u32, old: &Arc<Fid<H>>, new: Fid<H>) -> Result<()> {
        let mut fids = self.fids.lock();
        let found = fids.get_mut(&number).filter(|now| Arc::ptr_eq(&now.fid, old));
        let replaced = std::mem::replace(&mut found.ok_or_else(unknown)?.fid, Arc::new(new));
        // What is dropped with it may take long.
        drop(fids);
        drop(replaced);
        Ok(())
    }

    pub(crate) fn remove(&self, number: u32) -> Result<Arc<Fid<H>>> {
        self.fids.lock().remove(&number).map(|gone| gone.fid).ok_or_else(unknown)
    }

    /// Whether a number still stands for this fid.
    pub(crate) fn is_current(&self, number: u32, fid: &Arc<Fid<H>>) -> bool {
        self.fids.lock().get(&number).is_some_and(|now| Arc::ptr_eq(&now.fid, fid))
    }

    /// Follows a name that was moved.
    pub(crate) fn renamed(&self, from: (Ino, &[u8]), to: (Ino, &[u8])) {
        for Numbered { fid, .. } in self.fids.lock().values() {
            let mut found = fid.found.lock();
            if found.as_ref().is_some_and(|(dir, name)| (*dir, &**name) == from) {
                *found = Some((to.0, to.1.into()));
            }
        }
    }

    /// Forgets all of them.
    pub(crate) fn clear(&self) {
        let fids = std::mem::take(&mut *self.fids.lock());
        drop(fids);
    }
}

#[cfg(test)]
mod tests {
    use super::{Attach, Fid, Fids, Role};
    use crate::export::{Bounds, Export};
    use crate::identity::Identity;
    use crate::places::Total;
    use listen::Peer;
    use std::sync::Arc;
    use vfs::{ErrorKind, Ino, Kind};

    fn fid(found: &[u8]) -> Fid<()> {
        let peer = Peer::Unix { uid: 0, gid: 0, pid: None };
        let identity = Identity::claimed(&Export::default(), &peer, 0, b"").unwrap();
        let attach = Arc::new(Attach { identity, root: Ino::ROOT });
        let found = Some((Ino::ROOT, found.into())).into();
        Fid { attach, ino: Ino::ROOT, kind: Kind::Directory, found, role: Role::Named }
    }

    fn fids(fids_max: usize) -> Fids<()> {
        let bounds = Bounds { fids_max, ..Bounds::default() };
        Fids::new(Total::new(&bounds).fids(&bounds))
    }

    fn kind(result: vfs::Result<()>) -> Option<ErrorKind> {
        result.err().map(|error| error.kind())
    }

    #[test]
    fn numbers_are_bounded_and_not_given_twice() {
        let fids = fids(2);
        fids.insert(1, fid(b"a")).unwrap();
        assert_eq!(kind(fids.insert(1, fid(b"a"))), Some(ErrorKind::BadHandle));
        fids.insert(2, fid(b"a")).unwrap();
        assert_eq!(kind(fids.insert(3, fid(b"a"))), Some(ErrorKind::TooManyOpen));
        fids.remove(1).unwrap();
        fids.insert(3, fid(b"a")).unwrap();
        fids.clear();
        assert!(fids.get(2).is_err());
    }

    #[test]
    fn only_what_is_still_there_is_replaced() {
        let fids = fids(9);
        fids.insert(1, fid(b"a")).unwrap();
        let old = fids.get(1).unwrap();
        fids.replace(1, &old, fid(b"b")).unwrap();
        assert!(!fids.is_current(1, &old));
        assert_eq!(kind(fids.replace(1, &old, fid(b"c"))), Some(ErrorKind::BadHandle));
        fids.remove(1).unwrap();
        assert_eq!(kind(fids.replace(1, &old, fid(b"c"))), Some(ErrorKind::BadHandle));
    }

    #[test]
    fn names_follow_renames() {
        let fids = fids(9);
        for (number, name) in [(1, b"a"), (2, b"b")] {
            fids.insert(number, fid(name)).unwrap();
        }
        let dir = Ino::new(7).unwrap();
        fids.renamed((Ino::ROOT, b"a"), (dir, b"c"));
        let found = |number| fids.get(number).unwrap().found.lock().clone().unwrap();
        assert_eq!(found(1), (dir, b"c"[..].into()));
        assert_eq!(found(2), (Ino::ROOT, b"b"[..].into()));
    }
}

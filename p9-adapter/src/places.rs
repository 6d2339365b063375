//! How many fids and open files there may be: of one connection, and of all together.

use crate::export::Bounds;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use vfs::{ErrorKind, Result};

/// Places of one kind.
#[derive(Debug)]
pub(crate) struct Places {
    taken: AtomicUsize,
    max: usize,
    /// Those that this connection has together with all others.
    of_all: Option<Arc<Places>>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Places>);

/// What all connections of a server may hold together.
#[derive(Debug)]
pub(crate) struct Total {
    fids: Arc<Places>,
    open: Arc<Places>,
}

impl Total {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        let places = |max| Arc::new(Places { taken: AtomicUsize::new(0), max, of_all: None });
        Self { fids: places(bounds.all_fids_max), open: places(bounds.all_open_max) }
    }

    /// Places for the fids of one connection.
    pub(crate) fn fids(&self, bounds: &Bounds) -> Arc<Places> {
        Places::of_one(bounds.fids_max, &self.fids)
    }

    /// Places for those of its fids that are open.
    pub(crate) fn open(&self, bounds: &Bounds) -> Arc<Places> {
        Places::of_one(bounds.open_max, &self.open)
    }
}

impl Places {
    fn of_one(max: usize, of_all: &Arc<Self>) -> Arc<Self> {
        let of_all = Some(Arc::clone(of_all));
        Arc::new(Self { taken: AtomicUsize::new(0), max, of_all })
    }

    /// Takes a place.
    pub(crate) fn take(self: &Arc<Self>) -> Result<Place> {
        if !self.enter() {
            return Err(ErrorKind::TooManyOpen.into());
        }
        if self.of_all.as_ref().is_some_and(|all| !all.enter()) {
            self.leave();
            return Err(vfs::Error::because(ErrorKind::TooManyOpen, "of all clients together"));
        }
        Ok(Place(Arc::clone(self)))
    }

    fn enter(&self) -> bool {
        let fits = self.taken.fetch_add(1, Ordering::Relaxed) < self.max;
        if !fits {
            self.leave();
        }
        fits
    }

    fn leave(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.leave();
        if let Some(all) = &self.0.of_all {
            all.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, Total};
    use crate::export::Bounds;
    use vfs::{ErrorKind, Result};

    fn is_full(taken: Result<Place>) -> bool {
        taken.is_err_and(|error| error.kind() == ErrorKind::TooManyOpen)
    }

    #[test]
    fn there_is_room_for_so_many_of_one_and_of_all() {
        let bounds = Bounds { fids_max: 2, all_fids_max: 3, ..Bounds::default() };
        let total = Total::new(&bounds);
        let (one, other) = (total.fids(&bounds), total.fids(&bounds));
        let first = one.take().unwrap();
        let second = one.take().unwrap();
        assert!(is_full(one.take()), "of one");
        let third = other.take().unwrap();
        for _ in 0..3 {
            assert!(is_full(other.take()), "of all");
        }
        drop(first);
        let fourth = other.take().unwrap();
        assert!(is_full(one.take()), "of all");
        drop((second, third, fourth));
        let all = [one.take(), one.take(), other.take()];
        assert!(all.iter().all(Result::is_ok), "everything was given back");
        // Other places are others.
        total.open(&bounds).take().unwrap();
    }
}

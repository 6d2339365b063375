//! What each request means in terms of the trait, free of replies and threads.
//!
//! Every method takes the kernel's plain numbers and gives what the reply needs. The
//! kernel has checked permissions ([`Dac::Delegated`]) and applied the umask.

mod attrs;
mod data;
mod dirs;
mod names;
mod xattrs;

pub(crate) use attrs::Asked;
pub(crate) use data::{CopyEnd, WriteAsk};
pub(crate) use dirs::{Listing, Sink};
pub(crate) use names::Opened;

use crate::convert::{block_size, file_attr};
use crate::handles::Handles;
use crate::options::Options;
use crate::wire;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;
use vfs::{Attr, Context, Cred, Dac, Entry, ErrorKind, Groups, Limits, Result, Validity, Vfs};

/// What was agreed with the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Agreed {
    /// The kernel gathers writes and handles appends.
    pub(crate) writeback: bool,
    /// Set-id bits are dropped by the file system, not by the kernel.
    pub(crate) kills_privileges: bool,
}

/// Who asks.
#[derive(Debug)]
pub(crate) struct Caller(Cred);

impl Caller {
    /// The sender of a request. The kernel tells no supplementary groups.
    pub(crate) fn of(header: &wire::Header) -> Self {
        Self::new(header.uid, header.gid)
    }

    fn new(uid: u32, gid: u32) -> Self {
        Self(Cred { uid, gid: Some(gid), groups: Groups::Partial(Box::new([])) })
    }

    fn context(&self) -> Context<'_> {
        Context { cred: &self.0, dac: Dac::Delegated, op: None }
    }
}

/// Attributes and how long the kernel may believe them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// The attributes.
    pub(crate) attr: wire::Attr,
    /// How long they hold.
    pub(crate) ttl: Duration,
}

/// A file system, the handles the kernel holds in it, and how to talk about both.
pub(crate) struct Core<V: Vfs> {
    fs: Arc<V>,
    files: Handles<V::Handle>,
    dirs: Handles<V::Handle>,
    limits: Limits,
    options: Options,
    agreed: OnceLock<Agreed>,
}

impl<V: Vfs> Core<V> {
    pub(crate) fn new(fs: Arc<V>, options: Options) -> Self {
        let limits = fs.limits();
        let (files, dirs) = (Handles::new(), Handles::new());
        Self { fs, files, dirs, limits, options, agreed: OnceLock::new() }
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Notes what was agreed with the kernel; the first agreement stands.
    pub(crate) fn agree(&self, agreed: Agreed) {
        let _ = self.agreed.set(agreed);
    }

    /// Whether the kernel may hold data of a file that the file system has not seen.
    pub(crate) fn hides_dirty_pages(&self) -> bool {
        self.agreed().writeback
    }

    fn agreed(&self) -> Agreed {
        self.agreed.get().copied().unwrap_or_default()
    }

    fn ttl(&self, validity: Validity) -> Duration {
        match validity {
            Validity::For(time) => time.min(self.options.validity_max),
            Validity::UntilChanged => self.options.validity_max,
        }
    }

    fn known(&self, entry: &Entry) -> Known {
        Known { attr: self.file_attr(&entry.attr), ttl: self.ttl(entry.validity) }
    }

    /// For attributes that came without a validity.
    fn known_briefly(&self, attr: &Attr) -> Known {
        Known { attr: self.file_attr(attr), ttl: self.options.attr_validity }
    }

    fn file_attr(&self, attr: &Attr) -> wire::Attr {
        file_attr(attr, block_size(self.limits.preferred))
    }
}

/// A reply that breaks the trait's contract, such as a handle that was asked for and
/// is missing.
fn broken_contract(what: &'static str) -> vfs::Error {
    vfs::Error::because(ErrorKind::Io, what)
}

/// Whether a result says that there is no such name.
fn is_absent<T>(found: &Result<T>) -> bool {
    matches!(found, Err(error) if error.kind() == ErrorKind::NotFound)
}

//! Where sealed objects live.
//!
//! A store is not trusted with anything but keeping bytes: it may lose, replay,
//! swap or forge objects, and whoever reads them must notice. It has no
//! transactions. What it can promise beyond that is in [`Capabilities`], never
//! in a brand name.
//!
//! # Contract
//!
//! * A put that answered `Ok` is on stable storage and visible to every later
//!   `get`, `size` and `list` of this client.
//! * A put is atomic: no reader ever sees part of an object.
//! * `put` with [`PutMode::CreateIfAbsent`] never replaces an object. Where
//!   [`Capabilities::create_if_absent`] holds, of two concurrent ones exactly
//!   one answers [`PutOutcome::Created`].
//! * `delete` of a name that is not there succeeds.
//! * Every call ends: in time with the answer, or with an [`Error`] that says
//!   whether to try again.

mod aside;
mod error;
mod fault;
mod file;
mod memory;
mod name;
#[cfg(test)]
pub(crate) mod suite;
mod url;

pub use error::{Error, ErrorKind};
pub use fault::{Fault, FaultHook, FaultOp, FaultRule, FaultRuleId, FaultStore};
pub use file::FileStore;
pub use memory::MemoryStore;
pub use name::{NameError, ObjectName};
pub use url::{Create, StoreUrl, open};

use async_trait::async_trait;
use bytes::Bytes;
use std::ops::Range;
use std::path::Path;

/// Shorthand for a store's result.
pub type Result<T> = std::result::Result<T, Error>;

/// What a store can do beyond keeping bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Of two concurrent creations of one name, one is told that it lost.
    pub create_if_absent: bool,
    /// Objects have a server-assigned order that all clients agree on.
    pub total_order: bool,
    /// Part of an object can be read without the rest.
    pub ranged_get: bool,
    /// Reading costs no more than reading a local file, so a local cache of
    /// what is there would only be a second copy.
    pub is_local: bool,
    /// Largest object, bytes.
    pub object_size_max: u64,
    /// Ranges are served in multiples of this, bytes; 1 if it does not matter.
    pub alignment: u32,
}

/// What to do when the name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// Leave what is there and say so.
    CreateIfAbsent,
    /// Replace it.
    Overwrite,
}

/// What a put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object is now the one given.
    Created,
    /// The name was taken; nothing was changed.
    AlreadyThere,
}

/// One object as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub name: ObjectName,
    /// Its length, bytes.
    pub size: u64,
}

/// A place for sealed objects; see the module for the contract.
#[async_trait]
pub trait BlobStore: std::fmt::Debug + Send + Sync + 'static {
    /// What this store can do.
    fn capabilities(&self) -> Capabilities;

    /// Bytes that still fit, where that is known.
    fn space(&self) -> Option<u64> {
        None
    }

    /// Where it is, for people: a URL without secrets.
    fn location(&self) -> String;

    /// Stores `body` under `name`.
    async fn put(&self, name: &ObjectName, body: Bytes, mode: PutMode) -> Result<PutOutcome>;

    /// Stores the contents of a local file that nobody changes any more. The
    /// store may keep a link to the file instead of a copy.
    async fn put_file(&self, name: &ObjectName, path: &Path, mode: PutMode) -> Result<PutOutcome>;

    /// Reads an object, or the part of it in `range`. A range that reaches
    /// beyond the end gives what there is.
    async fn get(&self, name: &ObjectName, range: Option<Range<u64>>) -> Result<Bytes>;

    /// The length of an object; `None` if it is not there.
    async fn size(&self, name: &ObjectName) -> Result<Option<u64>>;

    /// Every object whose name starts with `prefix`, in no order.
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>>;

    /// Removes an object.
    async fn delete(&self, name: &ObjectName) -> Result<()>;
}

/// The part of an object of `len` bytes that `range` asks for.
fn clip(range: Option<Range<u64>>, len: u64) -> Range<u64> {
    let Some(range) = range else { return 0..len };
    let start = range.start.min(len);
    start..range.end.clamp(start, len)
}

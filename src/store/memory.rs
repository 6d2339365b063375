//! A store in memory, for tests and for trying things out.
//!
//! It keeps the whole contract but one line: nothing in it survives the process.

use super::{
    BlobStore, Capabilities, Error, ErrorKind, ObjectInfo, ObjectName, PutMode, PutOutcome, Result,
    clip,
};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// Large enough for every object of ours, small enough that tests meet it.
const OBJECT_SIZE_MAX: u64 = 1 << 30;

/// Objects in a map.
#[derive(Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<ObjectName, Bytes>>,
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A second store with the same objects, on its own from now on: what a
    /// provider does that shows two clients two histories, or an old backup.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { objects: Mutex::new(self.objects.lock().clone()) }
    }

    fn error(&self, kind: ErrorKind, name: &ObjectName) -> Error {
        Error::new(kind).at(self.location()).named(name)
    }
}

#[async_trait]
impl BlobStore for MemoryStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            create_if_absent: true,
            total_order: false,
            ranged_get: true,
            is_local: true,
            object_size_max: OBJECT_SIZE_MAX,
            alignment: 1,
        }
    }

    fn location(&self) -> String {
        "memory:".to_owned()
    }

    async fn put(&self, name: &ObjectName, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        if body.len() as u64 > OBJECT_SIZE_MAX {
            return Err(self.error(ErrorKind::TooLarge, name));
        }
        let mut objects = self.objects.lock();
        if mode == PutMode::CreateIfAbsent && objects.contains_key(name) {
            return Ok(PutOutcome::AlreadyThere);
        }
        objects.insert(*name, body);
        Ok(PutOutcome::Created)
    }

    async fn put_file(&self, name: &ObjectName, path: &Path, mode: PutMode) -> Result<PutOutcome> {
        let body = std::fs::read(path).map_err(|error| {
            self.error(ErrorKind::Io, name)
                .detail(format!("cannot read {}", path.display()))
                .because(error)
        })?;
        self.put(name, body.into(), mode).await
    }

    async fn get(&self, name: &ObjectName, range: Option<Range<u64>>) -> Result<Bytes> {
        let body = self.objects.lock().get(name).cloned();
        let body = body.ok_or_else(|| self.error(ErrorKind::NotFound, name))?;
        let part = clip(range, body.len() as u64);
        Ok(body.slice(part.start as usize..part.end as usize))
    }

    async fn size(&self, name: &ObjectName) -> Result<Option<u64>> {
        Ok(self.objects.lock().get(name).map(|body| body.len() as u64))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let objects = self.objects.lock();
        let matching = objects.iter().filter(|(name, _)| name.as_str().starts_with(prefix));
        Ok(matching.map(|(&name, body)| ObjectInfo { name, size: body.len() as u64 }).collect())
    }

    async fn delete(&self, name: &ObjectName) -> Result<()> {
        self.objects.lock().remove(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::MemoryStore;
    use crate::store::suite::{self, block_on};
    use crate::store::{BlobStore, ObjectName, PutMode};
    use bytes::Bytes;
    use std::sync::Arc;

    suite::conformance!(|| (Arc::new(MemoryStore::new()), ()));

    #[test]
    fn forks_part_ways() {
        let (one, name) = (MemoryStore::new(), ObjectName::vault(1));
        block_on(async {
            one.put(&name, Bytes::from_static(b"old"), PutMode::Overwrite).await.unwrap();
            let two = one.fork();
            one.put(&name, Bytes::from_static(b"new"), PutMode::Overwrite).await.unwrap();
            assert_eq!(one.get(&name, None).await.unwrap(), "new");
            assert_eq!(two.get(&name, None).await.unwrap(), "old");
        });
    }
}

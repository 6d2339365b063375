//! A store that tests over a network would have.

use async_trait::async_trait;
use bytes::Bytes;
use std::ops::Range;
use std::path::Path;
use tgcryptfs::store::{
    BlobStore, Capabilities, ObjectInfo, ObjectName, PutMode, PutOutcome, Result,
};

/// A store on this machine that counts as far away: what is read of it is cached.
#[derive(Debug)]
pub(crate) struct Far<S>(pub(crate) S);

#[async_trait]
impl<S: BlobStore> BlobStore for Far<S> {
    fn capabilities(&self) -> Capabilities {
        Capabilities { is_local: false, ..self.0.capabilities() }
    }

    fn location(&self) -> String {
        "far away".to_owned()
    }

    async fn put(&self, name: &ObjectName, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        self.0.put(name, body, mode).await
    }

    async fn put_file(&self, name: &ObjectName, path: &Path, mode: PutMode) -> Result<PutOutcome> {
        self.0.put_file(name, path, mode).await
    }

    async fn get(&self, name: &ObjectName, range: Option<Range<u64>>) -> Result<Bytes> {
        self.0.get(name, range).await
    }

    async fn size(&self, name: &ObjectName) -> Result<Option<u64>> {
        self.0.size(name).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        self.0.list(prefix).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<()> {
        self.0.delete(name).await
    }
}

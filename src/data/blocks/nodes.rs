//! Nodes of checkpoints: blocks in packs of their own, which the log does not
//! announce and the index of blocks does not know.

use super::{BlockType, Blocks, Error, Result};
use crate::data::pack::PackWriter;
use crate::ids::{BlockId, PackId};
use crate::log::record::PackInfo;
use crate::meta::row::BlockPlace;
use bytes::Bytes;
use std::collections::HashMap;
use std::path::PathBuf;

/// Writes nodes into packs on the local disk, to be uploaded when all are there.
#[derive(Debug)]
pub struct NodeWriter<'a> {
    blocks: &'a Blocks,
    dir: PathBuf,
    open: Option<PackWriter>,
    packs: Vec<PackInfo>,
}

impl<'a> NodeWriter<'a> {
    /// Starts with no pack; what an earlier, unfinished one left is removed.
    pub fn new(blocks: &'a Blocks) -> Result<Self> {
        let dir = blocks.policy.cache_dir.join("nodes");
        let error = |source| Error::Cache { path: dir.clone(), source };
        match std::fs::remove_dir_all(&dir) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(error(source));
            }
            _ => std::fs::create_dir_all(&dir).map_err(error)?,
        }
        Ok(Self { blocks, dir, open: None, packs: Vec::new() })
    }

    fn path(&self, pack: PackId) -> PathBuf {
        self.dir.join(pack.to_string())
    }

    /// Keeps a node and answers its id.
    pub fn add(&mut self, plain: &[u8]) -> Result<BlockId> {
        let id = self.blocks.id(BlockType::Tree, plain);
        let (place, record) = self.blocks.seal(BlockType::Tree, id, plain);
        let size_max = self.blocks.policy.pack_size_max;
        if self.open.as_ref().is_some_and(|open| !open.has_room(record.len(), size_max)) {
            self.close()?;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                let pack = PackId::random(&self.blocks.env);
                let path = self.path(pack);
                let keys = self.blocks.keyring.current();
                PackWriter::create(keys, pack, &path, &self.blocks.env)
                    .map_err(|source| Error::Cache { path, source })?
            }
        };
        let appended = open.append(id, place, &record);
        let path = self.path(open.id);
        self.open = Some(open);
        appended.map(|_| id).map_err(|source| Error::Cache { path, source })
    }

    fn close(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let closed = open.close(&self.blocks.env);
        // A store may link the file instead of copying it.
        let closed = closed.and_then(|info| open.file().sync_data().map(|()| info));
        let path = self.path(open.id);
        self.packs.push(closed.map_err(|source| Error::Cache { path, source })?);
        Ok(())
    }

    /// Packs begun so far.
    #[must_use]
    pub fn packs(&self) -> usize {
        self.packs.len() + usize::from(self.open.is_some())
    }

    /// Uploads all packs and answers which they are.
    pub async fn upload(mut self) -> Result<Vec<PackInfo>> {
        self.close()?;
        for info in &self.packs {
            self.blocks.put_pack(info, &self.path(info.pack)).await?;
        }
        std::fs::remove_dir_all(&self.dir)
            .map_err(|source| Error::Cache { path: self.dir.clone(), source })?;
        Ok(self.packs)
    }
}

/// Reads nodes from the packs that a checkpoint names.
#[derive(Debug)]
pub struct NodeReader<'a> {
    blocks: &'a Blocks,
    places: HashMap<BlockId, (usize, BlockPlace)>,
    packs: Vec<PackInfo>,
}

impl<'a> NodeReader<'a> {
    /// Reads the directories of `packs`.
    pub async fn open(blocks: &'a Blocks, packs: Vec<PackInfo>) -> Result<Self> {
        let mut places = HashMap::new();
        for (index, info) in packs.iter().enumerate() {
            for (id, place) in blocks.fetch_dir(info).await? {
                places.insert(id, (index, place));
            }
        }
        Ok(Self { blocks, places, packs })
    }

    /// The plaintext of a node.
    pub async fn get(&self, id: BlockId) -> Result<Bytes> {
        let (index, place) = self.places.get(&id).ok_or(Error::Missing { id })?;
        let info = &self.packs[*index];
        let read = || async {
            let record = self.blocks.read_store(info, place.range()).await?;
            self.blocks.open_record(BlockType::Tree, id, place, &record)
        };
        self.blocks.past_cache(info.pack, read).await
    }
}

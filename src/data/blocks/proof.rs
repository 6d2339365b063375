//! Proving that the store has what it should: past memory and past the cache.

use super::{BlockPlace, BlockType, Blocks, Error, Result};
use crate::data::{pack, parts};
use crate::ids::{BlockId, PackId};
use crate::log::record::PackInfo;
use crate::meta::row::PackState;
use crate::store::ObjectName;
use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// Read at a time while blocks follow each other, bytes.
const WINDOW_LEN: u64 = 4 << 20;

/// Reads blocks as the store has them; those of packs that are not announced yet
/// as they lie here. Holds one window of one pack.
#[derive(Debug)]
pub struct Proof<'a> {
    blocks: &'a Blocks,
    /// Packs that are not in the store as they were announced.
    lost: HashSet<PackId>,
    window: Option<(PackId, u64, Bytes)>,
}

impl<'a> Proof<'a> {
    /// Looks whether every announced pack is in the store and as long as it was,
    /// given what the store has listed; answers what is wrong as well. What is
    /// lost stands for no new data.
    pub async fn begin(
        blocks: &'a Blocks,
        sizes: &HashMap<ObjectName, u64>,
    ) -> Result<(Self, Vec<String>)> {
        let (mut lost, mut problems) = (HashSet::new(), Vec::new());
        for info in blocks.packs_in(PackState::Announced) {
            let name = match blocks.pack_name(&info) {
                Ok(name) => name,
                Err(error) => {
                    problems.push(error.to_string());
                    lost.insert(info.pack);
                    continue;
                }
            };
            if sizes.get(&name) == Some(&info.size) {
                continue;
            }
            // A listing may be older than what it is asked about.
            match blocks.store.size(&name).await? {
                Some(size) if size == info.size => continue,
                Some(size) => problems.push(format!(
                    "object {name}: {size} bytes in the store instead of {}",
                    info.size
                )),
                None => problems.push(format!("object {name}: the store has lost it")),
            }
            lost.insert(info.pack);
            blocks.table.lock().distrust(info.pack);
        }
        Ok((Self { blocks, lost, window: None }, problems))
    }

    /// Whether the store does not have a pack, or not all of it.
    #[must_use]
    pub fn is_lost(&self, pack: PackId) -> bool {
        self.lost.contains(&pack)
    }

    /// Reads and checks a block; answers its length.
    pub async fn verify(&mut self, kind: BlockType, id: BlockId) -> Result<u64> {
        let place = self.blocks.place(&id)?.ok_or(Error::Missing { id })?;
        let result = self.read(&place).await;
        let result = result.and_then(|record| self.blocks.open_record(kind, id, &place, &record));
        match result {
            Ok(plain) => Ok(plain.len() as u64),
            Err(error) => {
                if error.is_loss() {
                    self.blocks.table.lock().distrust(place.pack);
                }
                Err(error)
            }
        }
    }

    async fn read(&mut self, place: &BlockPlace) -> Result<Bytes> {
        let row = self.blocks.table.lock().row(place.pack);
        let gone = |part| pack::Error::Corrupt { pack: place.pack, part };
        let row = row.ok_or(gone("announcement"))?;
        if self.lost.contains(&place.pack) {
            return Err(pack::Error::Lost { pack: place.pack }.into());
        }
        if row.state < PackState::Announced
            && let Some(record) = self.blocks.read_local(place.pack, place.range())?
        {
            return Ok(record);
        }
        let range = place.range();
        if let Some(record) = self.in_window(place.pack, &range) {
            return Ok(record);
        }
        self.fill(&row.info, &range).await?;
        Ok(self.in_window(place.pack, &range).ok_or(gone("length"))?)
    }

    fn in_window(&self, pack: PackId, range: &Range<u64>) -> Option<Bytes> {
        let (_, start, bytes) = self.window.as_ref().filter(|(of, ..)| *of == pack)?;
        let from = usize::try_from(range.start.checked_sub(*start)?).ok()?;
        let to = usize::try_from(range.end - *start).ok()?;
        (to <= bytes.len()).then(|| bytes.slice(from..to))
    }

    /// Reads what is asked for; more than that only if it goes on where the last
    /// window ended, as the blocks of a file that was written at once do.
    async fn fill(&mut self, info: &PackInfo, range: &Range<u64>) -> Result<()> {
        let goes_on = self.window.as_ref().is_some_and(|(pack, start, bytes)| {
            let last = *start..*start + bytes.len() as u64;
            *pack == info.pack && last.start < range.start && range.start <= last.end
        });
        let ahead = if goes_on { range.start + WINDOW_LEN } else { 0 };
        let range = range.start..range.end.max(ahead.min(info.size));
        self.window = None;
        let name = self.blocks.pack_name(info)?;
        let body = parts::get(&*self.blocks.store, &name, info.pack, range.clone()).await?;
        self.window = Some((info.pack, range.start, body));
        Ok(())
    }
}

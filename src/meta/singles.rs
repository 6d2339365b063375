//! Rows of which there is one each: where this machine is.

use super::db::{self, Key, Reader, Table, Txn};
use super::state::Usage;
use crate::codec::{DecodeError, Reader as Decoder, Writer};
use crate::ids::{Hash, Hlc, Incarnation};
use crate::log::record::{CUT_MAX, CheckpointRef};
use crate::log::segment::Dep;

/// A row of the table of singles.
pub trait Single: Sized {
    /// Its key.
    const KEY: i64;

    /// The encoding.
    fn encode(&self, w: &mut Writer);

    /// Reads one.
    fn decode(r: &mut Decoder<'_>) -> Result<Self, DecodeError>;

    /// Reads it from the database.
    fn load(db: &Reader) -> db::Result<Option<Self>> {
        Self::parse(db.get(Table::Single, Key::Int(Self::KEY))?)
    }

    /// Reads it as a transaction sees it.
    fn load_in(txn: &Txn<'_>) -> db::Result<Option<Self>> {
        Self::parse(txn.get(Table::Single, Key::Int(Self::KEY))?)
    }

    /// Reads a row.
    fn parse(row: Option<Vec<u8>>) -> db::Result<Option<Self>> {
        let Some(row) = row else { return Ok(None) };
        let mut r = Decoder::new(&row);
        let value = Self::decode(&mut r);
        let value = value.and_then(|value| r.finish("row").map(|()| value));
        value.map(Some).map_err(|e| super::state::malformed(Table::Single, e))
    }

    /// Writes it.
    fn save(&self, txn: &Txn<'_>) -> db::Result<()> {
        let mut w = Writer::new();
        self.encode(&mut w);
        txn.put(Table::Single, Key::Int(Self::KEY), w.as_slice())
    }
}

/// How far the state has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The first number that no inode or link can have yet.
    pub next_number: u64,
    /// The time of the last op.
    pub hlc: Hlc,
    /// How much there is.
    pub usage: Usage,
}

impl Single for Position {
    const KEY: i64 = 1;

    fn encode(&self, w: &mut Writer) {
        w.u64(self.next_number).u64(self.hlc.0).u64(self.usage.bytes).u64(self.usage.inodes);
    }

    fn decode(r: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let (next_number, hlc) = (r.u64("next number")?, Hlc(r.u64("hlc")?));
        let usage = Usage { bytes: r.u64("bytes")?, inodes: r.u64("inodes")? };
        Ok(Self { next_number, hlc, usage })
    }
}

/// How far this machine's own log has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnLog {
    /// This life.
    pub incarnation: Incarnation,
    /// The number of the next segment.
    pub next_seq: u64,
    /// The hash of the last one.
    pub last: Hash,
    /// The number of the next head.
    pub next_head: u64,
    /// What the last head said the next segment is.
    pub told_seq: u64,
    /// The number of the next checkpoint.
    pub next_checkpoint: u64,
    /// Bytes of ops since the last checkpoint.
    pub since_checkpoint: u64,
    /// The last checkpoint.
    pub checkpoint: Option<CheckpointRef>,
    /// Bytes of its nodes.
    pub checkpoint_len: u64,
    /// Whether the store has the record that lets others find this life's log.
    pub is_announced: bool,
}

impl Single for OwnLog {
    const KEY: i64 = 2;

    fn encode(&self, w: &mut Writer) {
        w.raw(&self.incarnation.0).u64(self.next_seq).raw(&self.last.0).u64(self.next_head);
        w.u64(self.next_checkpoint).u64(self.since_checkpoint);
        w.opt(self.checkpoint, |w, at| at.encode(w));
        w.u64(self.told_seq).u64(self.checkpoint_len).bool(self.is_announced);
    }

    fn decode(r: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            incarnation: Incarnation(r.array("incarnation")?),
            next_seq: r.u64("next seq")?,
            last: Hash(r.array("last hash")?),
            next_head: r.u64("next head")?,
            next_checkpoint: r.u64("next checkpoint")?,
            since_checkpoint: r.u64("since checkpoint")?,
            checkpoint: r.opt("checkpoint", CheckpointRef::decode)?,
            told_seq: r.u64("told seq")?,
            checkpoint_len: r.u64("checkpoint length")?,
            is_announced: r.bool("is announced")?,
        })
    }
}

/// The ends of other logs, and of this machine's earlier lives, as folded here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// One for each log.
    pub heads: Vec<Dep>,
    /// Where the batch ends of which only a part is folded, because that was cut off.
    pub unfinished: Option<Dep>,
}

impl Single for Seen {
    const KEY: i64 = 3;

    fn encode(&self, w: &mut Writer) {
        w.list(&self.heads, |w, dep| dep.encode(w)).opt(self.unfinished, |w, end| end.encode(w));
    }

    fn decode(r: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let heads = r.list("heads", CUT_MAX, 64, Dep::decode)?;
        // Builds that folded every batch in one go ended here.
        let unfinished = if r.left() == 0 { None } else { r.opt("unfinished", Dep::decode)? };
        Ok(Self { heads, unfinished })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_reads_as_older_builds_wrote_it() {
        let mut older = Writer::new();
        older.list(&[], |w, dep: &Dep| dep.encode(w));
        let bytes = older.into_vec();
        assert_eq!(Seen::decode(&mut Decoder::new(&bytes)).unwrap(), Seen::default());
        let mut now = Writer::new();
        Seen::default().encode(&mut now);
        let bytes = now.into_vec();
        assert_eq!(Seen::decode(&mut Decoder::new(&bytes)).unwrap(), Seen::default());
    }
}

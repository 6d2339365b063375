//! Checkpoints: writing the state at a cut of the log to the store, and making
//! the local database from one.
//!
//! A checkpoint is written when the log since the last one has grown by as much
//! as the last one was long, so writing them costs at most as much again as
//! writing the log, and reading the newest and the log behind it is
//! proportional to the state, however long the history.

use super::follow::{Folded, Log, Source};
use super::publish::Publisher;
use super::{Engine, Error, Inner, Progress, Result};
use crate::crypto::{Context, SignatureKind, envelope, names};
use crate::data::blocks::{Blocks, NodeReader, NodeWriter};
use crate::ids::{BlockId, Hlc, MachineId};
use crate::log::object_name;
use crate::log::record::{CHECKPOINT_PACKS_MAX, CheckpointRecord, CheckpointRef, PackInfo};
use crate::meta::checkpoint::{LEVEL_MAX, Node, Root, Row, TreeBuilder};
use crate::meta::db::{Db, Key, Reader, Table, Txn};
use crate::meta::row::{Dent, PackRow, PackState};
use crate::meta::singles::{OwnLog, Position, Single};
use crate::meta::state::{State, decode_inode_row, encode_slot, malformed};
use crate::store::{PutMode, PutOutcome};
use crate::vault::membership::Role;
use std::collections::BTreeMap;

/// Rows of one transaction when a checkpoint is loaded.
const ROWS_PER_TRANSACTION: usize = 20_000;
/// Bytes of them.
const ROWS_LEN_MAX: usize = 8 << 20;
/// How many of a machine's checkpoints are tried before its log is read from the
/// start.
const TRIES: u64 = 3;

/// Feeds every inode and name that the database holds to `push`, in the order of
/// checkpoints. Memory is that of the largest directory.
fn tree_rows<E: From<crate::meta::db::Error>>(
    db: &Reader,
    mut push: impl FnMut(&Row) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    db.scan::<E>(Table::Ino, |key, row| {
        let ino = key.try_into().map_or(0, u64::from_be_bytes);
        let (inode, ..) = decode_inode_row(row).map_err(|e| malformed(Table::Ino, e))?;
        // Open, but without a name: gone as far as others are concerned.
        if inode.nlink == 0 { Ok(()) } else { push(&Row::Inode { ino, inode }) }
    })?;
    let (mut at, mut dents) = (0, Vec::new());
    let mut flush = |parent: u64, dents: &mut Vec<Dent>| {
        dents.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        for Dent { name, link, ino, .. } in dents.drain(..) {
            push(&Row::Dentry { parent, name, link, ino })?;
        }
        Ok::<_, E>(())
    };
    db.scan::<E>(Table::Dent, |key, row| {
        let parent = key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        if parent != at {
            flush(at, &mut dents)?;
            at = parent;
        }
        dents.push(Dent::decode(row).map_err(|e| malformed(Table::Dent, e))?);
        Ok(())
    })?;
    flush(at, &mut dents)
}

fn announced_packs(db: &Reader) -> Result<BTreeMap<[u8; 16], PackInfo>> {
    let mut packs = BTreeMap::new();
    db.scan::<Error>(Table::Pack, |key, row| {
        let pack = key.try_into().map_or_else(|_| crate::ids::PackId([0; 16]), crate::ids::PackId);
        let row = PackRow::decode(pack, row).map_err(|e| malformed(Table::Pack, e))?;
        if row.state == PackState::Announced {
            packs.insert(pack.0, row.info);
        }
        Ok(())
    })?;
    Ok(packs)
}

impl Engine {
    /// The root that a checkpoint of the last commit's state would have: equal on
    /// two machines if and only if they hold the same state.
    pub fn state_digest(&self) -> Result<Root> {
        let db = self.inner.db.reader()?;
        let keys = &self.inner.blocks.keyring().fixed;
        db.snapshot(|db| {
            let mut builder =
                TreeBuilder::new(keys.tree_key(), |node: &[u8]| Ok::<_, Error>(keys.tree_id(node)));
            tree_rows(db, |row| builder.push(row))?;
            for info in announced_packs(db)?.into_values() {
                builder.push(&Row::Pack(info))?;
            }
            builder.finish()
        })
    }
}

/// The state at the last commit, to become a checkpoint when all of it is in the
/// log.
pub(super) struct Draft {
    db: Reader,
    position: Position,
    packs: BTreeMap<[u8; 16], PackInfo>,
}

/// A checkpoint whose nodes lie on the local disk.
pub(super) struct Built<'a> {
    hlc: Hlc,
    root: Root,
    nodes: NodeWriter<'a>,
}

impl Inner {
    /// Fixes the state as of the last commit, if a checkpoint is due.
    pub(super) fn draft_checkpoint(&self, own: &OwnLog) -> Result<Option<Draft>> {
        let db = self.db.reader()?;
        let unsent_len = db.bytes_in(Table::Outbox)?;
        let due_at = own.checkpoint_len.max(self.settings.checkpoint_len_min);
        if own.since_checkpoint + unsent_len < due_at {
            return Ok(None);
        }
        db.begin_snapshot()?;
        let position = Position::load(&db)?.ok_or(Error::NoState)?;
        let packs = announced_packs(&db)?;
        Ok(Some(Draft { db, position, packs }))
    }

    /// Makes the nodes of what was drafted, and lets the database go: that an upload takes
    /// long must not make its log grow. `announced` are the packs that the log announces
    /// before the checkpoint is written.
    pub(super) fn build_checkpoint(
        &self,
        mut draft: Draft,
        announced: &[PackInfo],
    ) -> Result<Built<'_>> {
        draft.packs.extend(announced.iter().map(|info| (info.pack.0, *info)));
        let mut nodes = NodeWriter::new(&self.blocks)?;
        let keys = &self.blocks.keyring().fixed;
        let mut builder =
            TreeBuilder::new(keys.tree_key(), |node: &[u8]| nodes.add(node).map_err(Error::from));
        tree_rows(&draft.db, |row| builder.push(row))?;
        for info in draft.packs.values() {
            builder.push(&Row::Pack(*info))?;
        }
        let root = builder.finish()?;
        Ok(Built { hlc: draft.position.hlc, root, nodes })
    }

    /// Uploads a checkpoint; all segments are sent.
    pub(super) async fn write_checkpoint(
        &self,
        publisher: &mut Publisher,
        Built { hlc, root, nodes }: Built<'_>,
    ) -> Result<()> {
        if nodes.packs() > CHECKPOINT_PACKS_MAX {
            // Not tried again before the log has grown by as much.
            publisher.own.since_checkpoint = 0;
            return Err(Error::CheckpointTooLarge { packs: nodes.packs() });
        }
        let packs = nodes.upload().await?;
        let own = publisher.own;
        let machine = publisher.identity.machine;
        let cut = publisher.seen.heads.iter().copied().chain(publisher.end()).collect();
        let mut record = CheckpointRecord {
            namespace: self.blocks.keyring().namespace,
            machine,
            number: own.next_checkpoint,
            membership: publisher.membership,
            hlc,
            root: root.id,
            level: root.level,
            rows: root.rows,
            cut,
            packs,
        };
        while !self.put_checkpoint(&record, sign(publisher, &record)).await? {
            // Ours, from before a crash or an earlier life.
            record.number += 1;
        }
        publisher.own.next_checkpoint = record.number + 1;
        publisher.own.since_checkpoint = 0;
        publisher.own.checkpoint_len = root.len;
        publisher.own.checkpoint =
            Some(CheckpointRef { machine, number: record.number, root: root.id });
        let own = publisher.own;
        Ok(self.db.write(|txn| own.save(txn))?)
    }

    async fn put_checkpoint(&self, record: &CheckpointRecord, signed: Vec<u8>) -> Result<bool> {
        let keys = self.blocks.keyring().current();
        let context = Context::checkpoint(record.namespace, record.machine, record.number);
        let sealed = envelope::seal(&self.env, keys, &context, &signed)?;
        let name = object_name(&names::checkpoint(keys, record.machine, record.number));
        let put = self.store.put(&name, sealed.into(), PutMode::CreateIfAbsent).await?;
        Ok(put == PutOutcome::Created)
    }
}

fn sign(publisher: &Publisher, record: &CheckpointRecord) -> Vec<u8> {
    let mut signed = record.encode();
    publisher.identity.signing.sign_onto(SignatureKind::Checkpoint, &mut signed);
    signed
}

impl Source<'_> {
    /// The number of a machine's next checkpoint. They are numbered without gaps
    /// and never removed, so a search by halves finds the end.
    pub(super) async fn next_checkpoint(&self, machine: MachineId) -> Result<u64> {
        let mut beyond = 1;
        while self.has_checkpoint(machine, beyond - 1).await? {
            beyond *= 2;
        }
        let (mut low, mut high) = (beyond / 2, beyond - 1);
        // All below `low` are there, `high` is not.
        while low < high {
            let middle = low + (high - low) / 2;
            if self.has_checkpoint(machine, middle).await? {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    async fn has_checkpoint(&self, machine: MachineId, number: u64) -> Result<bool> {
        self.is_there(|keys| names::checkpoint(keys, machine, number)).await
    }

    async fn checkpoint(&self, machine: MachineId, number: u64) -> Result<CheckpointRecord> {
        let context = Context::checkpoint(self.keyring.namespace, machine, number);
        let refused = || Error::Unauthorised { machine };
        let plain = self
            .find(&context, |keys| names::checkpoint(keys, machine, number))
            .await?
            .ok_or(Error::NoCheckpoint { machine, number })?;
        let member = self.chain.newest().member(machine).ok_or_else(refused)?;
        let body = member
            .signing_key
            .verify_signed(SignatureKind::Checkpoint, &plain)
            .map_err(|_| refused())?;
        let record = CheckpointRecord::decode(body)?;
        let is_asked_for = (record.namespace, record.machine, record.number)
            == (self.keyring.namespace, machine, number);
        let role = self
            .chain
            .by_hash(&record.membership.0)
            .and_then(|membership| membership.member(machine))
            .map(|member| member.role);
        if !is_asked_for || role.is_none_or(|role| role < Role::Write) {
            return Err(refused());
        }
        Ok(record)
    }

    /// The newest checkpoints of every machine, the newest of all first.
    pub(super) async fn checkpoints(&self) -> Result<Vec<CheckpointRecord>> {
        let mut found = Vec::new();
        for member in &self.chain.newest().body().members {
            let next = self.next_checkpoint(member.machine).await?;
            for number in (next.saturating_sub(TRIES)..next).rev() {
                match self.checkpoint(member.machine, number).await {
                    Ok(record) => found.push(record),
                    Err(error) if error.kind() == vfs::ErrorKind::Unavailable => return Err(error),
                    Err(error) => log::warn!("checkpoint {number} cannot be used: {error}"),
                }
            }
        }
        found.sort_by_key(|record| std::cmp::Reverse(record.hlc));
        Ok(found)
    }

    /// Fills an empty database from a checkpoint and puts `logs` behind its cut.
    pub(super) async fn load_checkpoint(
        &self,
        record: &CheckpointRecord,
        logs: &mut [Log],
        (state, db, blocks): (&mut State, &Db, &Blocks),
        progress: &dyn Progress,
    ) -> Result<Folded> {
        progress.begin("reading the checkpoint", Some(record.rows));
        let mut folded = Folded::default();
        for end in &record.cut {
            folded.heads.insert((end.machine, end.incarnation), *end);
            logs.iter()
                .find(|log| (log.machine, log.incarnation) == (end.machine, end.incarnation))
                .ok_or(Error::Withheld { machine: end.machine, seq: end.seq })?;
        }
        let nodes = NodeReader::open(blocks, record.packs.clone()).await?;
        let mut loader = Loader { record, state, db, rows: vec![], packs: vec![] };
        let rows = loader.read_tree(&nodes, &mut folded, progress).await?;
        if rows != record.rows {
            return Err(loader.broken("it has more or fewer rows than it says"));
        }
        let packs = std::mem::take(&mut loader.packs);
        for info in packs {
            let entries = super::follow::read_dir(blocks, &info).await?;
            blocks.learn_pack(info);
            db.write(|txn| super::follow::save_pack(txn, &info, &entries))?;
        }
        logs.iter_mut().for_each(|log| log.go_behind(&folded));
        state.hlc = state.hlc.max(record.hlc);
        progress.end();
        Ok(folded)
    }
}

/// Puts the rows of a checkpoint into the database.
struct Loader<'a> {
    record: &'a CheckpointRecord,
    state: &'a State,
    db: &'a Db,
    rows: Vec<Row>,
    packs: Vec<PackInfo>,
}

impl Loader<'_> {
    fn broken(&self, reason: &'static str) -> Error {
        let (machine, number) = (self.record.machine, self.record.number);
        Error::BrokenCheckpoint { machine, number, reason }
    }

    /// Walks the tree from left to right; answers the number of rows.
    async fn read_tree(
        &mut self,
        nodes: &NodeReader<'_>,
        folded: &mut Folded,
        progress: &dyn Progress,
    ) -> Result<u64> {
        if self.record.level > LEVEL_MAX {
            return Err(self.broken("it is too deep"));
        }
        let mut count = 0;
        let (mut last_key, mut rows_len) = (Vec::new(), 0);
        let mut pending: Vec<(BlockId, u8)> = vec![(self.record.root, self.record.level)];
        while let Some((id, level)) = pending.pop() {
            match Node::decode(&nodes.get(id).await?, level)? {
                Node::Interior(below) => {
                    pending.extend(below.into_iter().rev().map(|(_, id)| (id, level - 1)));
                }
                Node::Leaf(rows) => {
                    progress.advance(rows.len() as u64);
                    count += rows.len() as u64;
                    for (key, value) in rows {
                        // Also what keeps a tree that repeats itself from going on for ever.
                        if key <= last_key {
                            return Err(self.broken("its rows are out of order"));
                        }
                        let row = Row::decode(&key, &value)?;
                        if let Row::Inode { ino, .. } = &row {
                            folded.saw_number(*ino);
                        }
                        self.rows.push(row);
                        rows_len += value.len();
                        last_key = key;
                    }
                    if self.rows.len() >= ROWS_PER_TRANSACTION || rows_len >= ROWS_LEN_MAX {
                        self.save()?;
                        rows_len = 0;
                    }
                }
            }
        }
        self.save()?;
        Ok(count)
    }

    fn save(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let mut is_sound = true;
        self.db.write(|txn| {
            for row in &rows {
                is_sound &= self.put(txn, row)?;
            }
            Ok(())
        })?;
        self.packs.extend(rows.iter().filter_map(|row| match row {
            Row::Pack(info) => Some(*info),
            _ => None,
        }));
        if is_sound { Ok(()) } else { Err(self.broken("a name leads to or lies in nothing")) }
    }

    /// Writes a row; says whether it fits those before.
    fn put(&self, txn: &Txn<'_>, row: &Row) -> crate::meta::db::Result<bool> {
        match row {
            Row::Pack(_) => {}
            Row::Inode { ino, inode } => {
                txn.put(Table::Ino, Key::ino(*ino), &encode_slot(inode, 0, false))?;
            }
            Row::Dentry { parent, name, link, ino } => {
                let dir = txn.get(Table::Ino, Key::ino(*parent))?;
                let Some(target) = txn.get(Table::Ino, Key::ino(*ino))? else { return Ok(false) };
                let (inode, ..) =
                    decode_inode_row(&target).map_err(|e| malformed(Table::Ino, e))?;
                let place = self.state.dent_key(*parent, name).bytes();
                let kind = crate::meta::fold::kind_code(&inode.node);
                let dent = Dent { link: *link, ino: *ino, kind, name: name.clone() };
                txn.put(Table::Dent, Key::Bytes(&place), &dent.encode())?;
                txn.put(Table::Link, Key::Bytes(&link.0), &place)?;
                if inode.is_dir() {
                    txn.put(Table::Ino, Key::ino(*ino), &encode_slot(&inode, *parent, false))?;
                }
                return Ok(dir.is_some());
            }
        }
        Ok(true)
    }
}

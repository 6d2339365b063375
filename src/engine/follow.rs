//! Reading logs from the store and folding them: how a machine that has nothing
//! but the keys gets the state.

use super::membership::Chain;
use super::{Error, Progress, Result};
use crate::crypto::{Context, EpochKeys, SignatureKind, envelope, names};
use crate::data::blocks::{Blocks, Keyring};
use crate::data::pack::DirEntry;
use crate::ids::{Hash, Incarnation, MachineId};
use crate::log::object_name;
use crate::log::op::{Group, Op};
use crate::log::record::{IncarnationRecord, PackInfo};
use crate::log::segment::{Dep, Segment};
use crate::meta::db::{self, Db, Key, Table, Txn};
use crate::meta::row::{PackRow, PackState};
use crate::meta::singles::{Position, Seen, Single};
use crate::meta::state::{State, Usage};
use crate::store::{BlobStore, ErrorKind};
use crate::vault::membership::Role;
use std::collections::HashMap;

/// One life of one machine, as far as it was read.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) machine: MachineId,
    pub(super) incarnation: Incarnation,
    /// The next segment to read.
    pub(super) next_seq: u64,
    /// The hash of the last one read.
    pub(super) last: Hash,
    /// Whether the store had no more.
    is_ended: bool,
    /// A batch that is read but whose dependencies are not folded yet.
    waiting: Option<Batch>,
}

impl Log {
    /// A log of which everything before `next_seq` is known.
    pub(super) fn behind(
        machine: MachineId,
        incarnation: Incarnation,
        next_seq: u64,
        last: Hash,
    ) -> Self {
        Self { machine, incarnation, next_seq, last, is_ended: false, waiting: None }
    }

    /// Goes on behind what `folded` has of this log.
    pub(super) fn go_behind(&mut self, folded: &Folded) {
        if let Some(end) = folded.heads.get(&(self.machine, self.incarnation)) {
            (self.next_seq, self.last) = (end.seq + 1, end.hash);
        }
    }
}

/// Segments of a batch that are in memory together.
const SEGMENTS_AT_A_TIME: usize = 8;

/// Segments that take effect together: all of them are there.
#[derive(Debug)]
struct Batch {
    deps: Vec<Dep>,
    /// The groups of the first of them.
    kept: Vec<Group>,
    /// Where those end: what follows is read again when it is folded.
    kept_to: Dep,
    end: Dep,
}

/// What reading needs to know.
pub(super) struct Source<'a> {
    pub(super) store: &'a dyn BlobStore,
    pub(super) chain: &'a Chain,
    pub(super) keyring: &'a Keyring,
}

impl Source<'_> {
    /// Every life of every machine.
    pub(super) async fn find_logs(&self) -> Result<Vec<Log>> {
        let mut logs = Vec::new();
        for member in &self.chain.newest().body().members {
            for index in 0.. {
                let Some(record) = self.incarnation(member.machine, index).await? else { break };
                let none = Hash([0; 32]);
                logs.push(Log::behind(member.machine, record.incarnation, 0, none));
            }
        }
        Ok(logs)
    }

    /// An incarnation record, if it is there.
    pub(super) async fn incarnation(
        &self,
        machine: MachineId,
        index: u32,
    ) -> Result<Option<IncarnationRecord>> {
        let first = self.keyring.epoch(0).ok_or(Error::NoKey { epoch: 0 })?;
        let name = object_name(&names::incarnation(first, machine, index));
        let context = Context::incarnation(self.keyring.namespace, machine, index);
        let Some(plain) = self.open(&name, &context).await? else { return Ok(None) };
        let member = self.chain.newest().member(machine).ok_or(Error::Unauthorised { machine })?;
        let body = member
            .signing_key
            .verify_signed(SignatureKind::Incarnation, &plain)
            .map_err(|_| Error::Unauthorised { machine })?;
        let record = IncarnationRecord::decode(body)?;
        let is_asked_for = record.machine == machine
            && record.index == index
            && record.namespace == self.keyring.namespace;
        if is_asked_for { Ok(Some(record)) } else { Err(Error::Unauthorised { machine }) }
    }

    pub(super) async fn open(
        &self,
        name: &crate::store::ObjectName,
        context: &Context,
    ) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>> {
        let len_max = context.object().sealed_max() as u64;
        let object = match self.store.get(name, Some(0..len_max + 1)).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let epochs = self.keyring.epochs.values().rev();
        let opened = envelope::open(epochs, context, &object)
            .map_err(|source| Error::Object { name: name.to_string(), source })?;
        Ok(Some(opened.plaintext))
    }

    /// The plaintext of an object that may be named under any epoch.
    pub(super) async fn find(
        &self,
        context: &Context,
        name: impl Fn(&EpochKeys) -> String,
    ) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>> {
        for keys in self.keyring.epochs.values().rev() {
            if let Some(plain) = self.open(&object_name(&name(keys)), context).await? {
                return Ok(Some(plain));
            }
        }
        Ok(None)
    }

    /// Whether an object is there that may be named under any epoch.
    pub(super) async fn is_there(&self, name: impl Fn(&EpochKeys) -> String) -> Result<bool> {
        for keys in self.keyring.epochs.values().rev() {
            if self.store.size(&object_name(&name(keys))).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a segment is there, whatever is in it.
    pub(super) async fn has_segment(
        &self,
        machine: MachineId,
        incarnation: Incarnation,
        seq: u64,
    ) -> Result<bool> {
        self.is_there(|keys| names::segment(keys, machine, incarnation, seq)).await
    }

    /// The hash of a segment, if it is there.
    pub(super) async fn segment_hash(&self, at: &Dep) -> Result<Option<Hash>> {
        let plain = self.segment_plain(at.machine, at.incarnation, at.seq).await?;
        Ok(plain.map(|plain| Hash(*blake3::hash(&plain).as_bytes())))
    }

    async fn segment_plain(
        &self,
        machine: MachineId,
        incarnation: Incarnation,
        seq: u64,
    ) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>> {
        let context = Context::segment(self.keyring.namespace, machine, incarnation, seq);
        self.find(&context, |keys| names::segment(keys, machine, incarnation, seq)).await
    }

    /// The segment behind what was read of a log, and the end of the log from then on;
    /// `None` if it is not there.
    async fn next_segment(&self, log: &mut Log) -> Result<Option<(Segment, Dep)>> {
        let (machine, seq) = (log.machine, log.next_seq);
        let namespace = self.keyring.namespace;
        let Some(plain) = self.segment_plain(machine, log.incarnation, seq).await? else {
            return Ok(None);
        };
        let refused = || Error::Unauthorised { machine };
        let member = self.chain.newest().member(machine).ok_or_else(refused)?;
        let body = member
            .signing_key
            .verify_signed(SignatureKind::Segment, &plain)
            .map_err(|_| refused())?;
        let segment = Segment::decode(body)?;
        let hash = Hash(*blake3::hash(&plain).as_bytes());
        let is_asked_for = segment.namespace == namespace
            && (segment.machine, segment.incarnation, segment.seq)
                == (machine, log.incarnation, seq);
        if !is_asked_for || segment.previous != log.last {
            return Err(Error::Fork { machine, seq });
        }
        let role = self
            .chain
            .by_hash(&segment.membership.0)
            .and_then(|record| record.member(machine))
            .map(|member| member.role);
        if role.is_none_or(|role| role < Role::Write) {
            return Err(refused());
        }
        (log.next_seq, log.last) = (seq + 1, hash);
        let end = Dep { machine, incarnation: log.incarnation, seq, hash };
        Ok(Some((segment, end)))
    }

    /// Whether a whole batch is there behind what is known of a log. Half of one is
    /// what a machine that was stopped left, and counts for nothing until it goes on.
    pub(super) async fn has_batch(&self, log: &mut Log) -> Result<bool> {
        if log.waiting.is_none() {
            self.read_batch(log).await?;
        }
        Ok(log.waiting.is_some())
    }

    /// Reads one more batch of a log, if a whole one is there.
    async fn read_batch(&self, log: &mut Log) -> Result<()> {
        let mut batch: Option<Batch> = None;
        let first = log.next_seq;
        loop {
            let Some((segment, end)) = self.next_segment(log).await? else {
                log.is_ended = true;
                return Ok(());
            };
            let empty = || Batch { deps: vec![], kept: vec![], kept_to: end, end };
            let gathered = batch.get_or_insert_with(empty);
            for dep in segment.deps {
                if !gathered.deps.contains(&dep) {
                    gathered.deps.push(dep);
                }
            }
            if segment.seq - first < SEGMENTS_AT_A_TIME as u64 {
                gathered.kept.extend(segment.groups);
                gathered.kept_to = end;
            }
            gathered.end = end;
            if segment.ends_batch {
                log.waiting = batch;
                return Ok(());
            }
        }
    }
}

/// What a fold has come to.
#[derive(Debug, Default)]
pub(super) struct Folded {
    /// The end of every log that has one.
    pub(super) heads: HashMap<(MachineId, Incarnation), Dep>,
    /// The highest inode number made in each machine's share.
    pub(super) last_number: HashMap<u64, u64>,
    /// Where the batch ends of which the state holds a part.
    pub(super) unfinished: Option<Dep>,
    /// The life that goes on here, whose end is kept elsewhere.
    pub(super) own: Option<(MachineId, Incarnation)>,
}

impl Folded {
    /// The ends of all logs, as kept in the database.
    pub(super) fn seen(&self) -> Seen {
        let is_others = |end: &Dep| self.own != Some((end.machine, end.incarnation));
        let mut heads: Vec<_> = self.heads.values().copied().filter(is_others).collect();
        heads.sort_unstable_by_key(|dep| (dep.machine, dep.incarnation));
        Seen { heads, unfinished: self.unfinished }
    }

    /// Notes that an inode number is taken.
    pub(super) fn saw_number(&mut self, ino: u64) {
        let last = self.last_number.entry(ino >> 47).or_default();
        *last = (*last).max(ino & ((1 << 47) - 1));
    }
}

/// Folds all logs into what `folded` says is in the state already, batch by batch.
pub(super) async fn fold_all(
    source: &Source<'_>,
    logs: &mut [Log],
    state: &mut State,
    (db, blocks): (&Db, &Blocks),
    mut folded: Folded,
    progress: &dyn Progress,
) -> Result<Folded> {
    progress.begin("reading the log", None);
    loop {
        let mut has_moved = false;
        for log in &mut *logs {
            if log.waiting.is_none() && !log.is_ended {
                source.read_batch(log).await?;
            }
            let is_ready = log.waiting.as_ref().is_some_and(|batch| {
                batch.deps.iter().all(|dep| {
                    let head = folded.heads.get(&(dep.machine, dep.incarnation));
                    head.is_some_and(|head| head.seq >= dep.seq)
                })
            });
            if is_ready && let Some(batch) = log.waiting.take() {
                fold_batch(source, batch, state, (db, blocks), &mut folded, progress).await?;
                has_moved = true;
            }
        }
        if !has_moved && logs.iter().all(|log| log.is_ended || log.waiting.is_some()) {
            break;
        }
    }
    progress.end();
    // A batch that depends on something that is not there: withheld.
    if let Some(dep) =
        logs.iter().filter_map(|log| log.waiting.as_ref()).flat_map(|b| &b.deps).find(|dep| {
            let head = folded.heads.get(&(dep.machine, dep.incarnation));
            head.is_none_or(|head| head.seq < dep.seq)
        })
    {
        return Err(Error::Withheld { machine: dep.machine, seq: dep.seq });
    }
    Ok(folded)
}

/// Folds a batch, a piece at a time and each in a transaction of its own. If that is cut
/// off, the database says so, and opening it goes on behind the last piece.
async fn fold_batch(
    source: &Source<'_>,
    batch: Batch,
    state: &mut State,
    (db, blocks): (&Db, &Blocks),
    folded: &mut Folded,
    progress: &dyn Progress,
) -> Result<()> {
    let Batch { mut kept, kept_to: mut at, end, .. } = batch;
    let mut log = Log::behind(at.machine, at.incarnation, at.seq + 1, at.hash);
    loop {
        folded.heads.insert((at.machine, at.incarnation), at);
        folded.unfinished = (at.seq < end.seq).then_some(end);
        fold_piece(&kept, state, (db, blocks), folded).await?;
        progress.advance(kept.len() as u64);
        if at.seq >= end.seq {
            return Ok(());
        }
        kept.clear();
        for _ in 0..SEGMENTS_AT_A_TIME.min((end.seq - at.seq) as usize) {
            let withheld = Error::Withheld { machine: at.machine, seq: log.next_seq };
            let (segment, now) = source.next_segment(&mut log).await?.ok_or(withheld)?;
            kept.extend(segment.groups);
            at = now;
        }
        if at.seq == end.seq && at.hash != end.hash {
            return Err(Error::Fork { machine: at.machine, seq: at.seq });
        }
    }
}

async fn fold_piece(
    groups: &[Group],
    state: &mut State,
    (db, blocks): (&Db, &Blocks),
    folded: &mut Folded,
) -> Result<()> {
    let mut dirs = Vec::new();
    for group in groups {
        for op in &group.ops {
            if let Op::PackAdd { pack, epoch, size, dir_hash } = op {
                let info =
                    PackInfo { pack: *pack, epoch: *epoch, size: *size, dir_hash: *dir_hash };
                dirs.push((info, read_dir(blocks, &info).await?));
                blocks.learn_pack(info);
            }
            if let Op::Create { ino, .. } = op {
                folded.saw_number(*ino);
            }
        }
        state.apply(&group.ops)?;
        state.hlc = state.hlc.max(group.hlc);
    }
    let frozen = state.freeze(0);
    let state_hlc = state.hlc;
    db.write(|txn| {
        for (info, entries) in &dirs {
            save_pack(txn, info, entries)?;
        }
        folded.seen().save(txn)?;
        if let Some(position) = Position::load_in(txn)? {
            // How much there is now is counted when all is taken in.
            let hlc = position.hlc.max(state_hlc);
            Position { hlc, usage: Usage::default(), ..position }.save(txn)?;
        }
        super::commit::save_state(txn, &frozen, &HashMap::new()).map(drop)
    })?;
    state.thaw(&frozen);
    Ok(())
}

/// The directory of a pack that the log announces. A pack that is lost or damaged
/// costs the files that need it, not all others: its blocks are missing, which
/// reading and `fsck` tell.
pub(super) async fn read_dir(blocks: &Blocks, info: &PackInfo) -> Result<Vec<DirEntry>> {
    match blocks.fetch_dir(info).await.map_err(Error::from) {
        Err(error) if error.kind() == vfs::ErrorKind::Unavailable => Err(error),
        Err(error) => {
            log::error!("what lies in pack {} cannot be read: {error}", info.pack);
            Ok(Vec::new())
        }
        entries => entries,
    }
}

/// Records a pack that the log announces, and where its blocks are.
pub(super) fn save_pack(txn: &Txn<'_>, info: &PackInfo, entries: &[DirEntry]) -> db::Result<()> {
    crate::data::blocks::save_places(txn, entries)?;
    let row = PackRow { state: PackState::Announced, info: *info };
    txn.put(Table::Pack, Key::Bytes(&info.pack.0), &row.encode())
}

//! What other machines have written: taken in when a namespace is opened, and
//! looked for before anything is announced.
//!
//! One machine writes at a time. Two that write at once would make a log that
//! does not fold, so a machine that finds others' changes stops announcing its
//! own until it has read them.

use super::follow::{Folded, Log, Source, fold_all};
use super::membership::Chain;
use super::{Error, Progress, Result};
use crate::crypto::MasterKey;
use crate::data::blocks::{Blocks, Keyring};
use crate::ids::{Hash, Incarnation, MachineId};
use crate::meta::db::Db;
use crate::meta::singles::{OwnLog, Seen, Single};
use crate::meta::state::State;
use crate::store::BlobStore;

/// The newest life of another machine.
#[derive(Debug)]
struct Life {
    machine: MachineId,
    /// The number of the life that would follow.
    next_index: u32,
    /// The life, its next segment and the hash of the one before; `None` before the
    /// first.
    newest: Option<(Incarnation, u64, Hash)>,
}

/// What is known of the other machines.
#[derive(Debug)]
pub(super) struct Others {
    master: MasterKey,
    chain: Chain,
    own: MachineId,
    lives: Vec<Life>,
}

impl Others {
    pub(super) fn new(master: MasterKey, chain: Chain, own: MachineId) -> Self {
        Self { master, chain, own, lives: Vec::new() }
    }

    /// Refuses to go on if another machine has written something that is not in
    /// `seen`. Two requests for each other machine.
    pub(super) async fn check(
        &mut self,
        store: &dyn BlobStore,
        keyring: &Keyring,
        seen: &Seen,
    ) -> Result<()> {
        self.chain.extend(store, &self.master).await?;
        for member in &self.chain.newest().body().members {
            let machine = member.machine;
            if machine != self.own && !self.lives.iter().any(|life| life.machine == machine) {
                self.lives.push(Life { machine, next_index: 0, newest: None });
            }
        }
        let source = Source { store, chain: &self.chain, keyring };
        for life in &mut self.lives {
            let machine = life.machine;
            loop {
                if let Some((incarnation, seq, last)) = life.newest
                    && source.has_segment(machine, incarnation, seq).await?
                    && source.has_batch(&mut Log::behind(machine, incarnation, seq, last)).await?
                {
                    return Err(Error::OtherWriter { machine });
                }
                let Some(record) = source.incarnation(machine, life.next_index).await? else {
                    break;
                };
                let incarnation = record.incarnation;
                let known = seen
                    .heads
                    .iter()
                    .find(|end| (end.machine, end.incarnation) == (machine, incarnation));
                life.newest = Some(match known {
                    Some(end) => (incarnation, end.seq + 1, end.hash),
                    None => (incarnation, 0, Hash([0; 32])),
                });
                life.next_index += 1;
            }
        }
        Ok(())
    }
}

/// Takes what other machines wrote since into a database that is there already.
pub(super) async fn catch_up(
    source: &Source<'_>,
    (machine, own): (MachineId, &OwnLog),
    has_unsent: bool,
    (state, db, blocks): (&mut State, &Db, &Blocks),
    progress: &dyn Progress,
) -> Result<()> {
    let seen = Seen::load(state.db())?.unwrap_or_default();
    let life = (machine, own.incarnation);
    let mut start = Folded { own: Some(life), ..Folded::default() };
    start.heads.extend(seen.heads.iter().map(|end| ((end.machine, end.incarnation), *end)));
    let mut logs: Vec<Log> = source.find_logs().await?;
    logs.retain(|log| (log.machine, log.incarnation) != life);
    // The rest of a batch that was cut off comes before anything else.
    let rest = |log: &Log| {
        let (machine, incarnation) = (log.machine, log.incarnation);
        seen.unfinished.filter(|end| (end.machine, end.incarnation) == (machine, incarnation))
    };
    logs.sort_by_key(|log| rest(log).is_none());
    let mut author = None;
    for log in &mut logs {
        log.go_behind(&start);
        if source.has_batch(log).await? {
            author = Some(log.machine);
        } else if let Some(end) = rest(log) {
            return Err(Error::Withheld { machine: end.machine, seq: end.seq });
        }
    }
    let Some(author) = author else { return Ok(()) };
    if has_unsent {
        return Err(Error::OtherWriter { machine: author });
    }
    if let Some(seq) = own.next_seq.checked_sub(1) {
        let end =
            crate::log::segment::Dep { machine, incarnation: own.incarnation, seq, hash: own.last };
        start.heads.insert(life, end);
    }
    fold_all(source, &mut logs, state, (db, blocks), start, progress).await.map(drop)
}

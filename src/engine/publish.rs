//! Uploading: packs, then the segments that announce and refer to them.
//!
//! What is sent was committed here before. Signed segments are kept in the
//! database until the store has confirmed them and are sent again byte for byte
//! after a crash, so no number of this machine's log is ever used for two.

use super::anchors::AnchorFile;
use super::commit::blocking;
use super::error::told;
use super::identity::Identity;
use super::others::Others;
use super::{Error, Inner, Result};
use crate::codec::Writer;
use crate::crypto::{Context, SignatureKind, envelope, names};
use crate::ids::Hash;
use crate::log::object_name;
use crate::log::op::{GROUP_OPS_MAX, Group, Op};
use crate::log::record::PackInfo;
use crate::log::segment::{DEPS_MAX, Dep, GROUPS_LEN_MAX, Segment};
use crate::meta::db::{Key, Reader, Table};
use crate::meta::row::PackState;
use crate::meta::singles::{OwnLog, Seen, Single};
use crate::store::{self, PutMode, PutOutcome};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Bytes of the outbox, or of segments to send, in memory at a time.
const PIECE_LEN: usize = 2 << 20;

/// What only the running upload touches.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(super) identity: Identity,
    pub(super) membership: Hash,
    pub(super) own: OwnLog,
    pub(super) seen: Seen,
    others: Others,
    anchors: AnchorFile,
    db: Reader,
    /// Changes up to here are in the store.
    sent: Option<u64>,
    /// When the last try ended, if the store was out of reach.
    failed_at: Option<Duration>,
}

/// A segment made from the outbox, signed and sealed.
struct Made {
    seq: u64,
    sealed: Vec<u8>,
}

impl Publisher {
    pub(super) fn new(
        identity: Identity,
        membership: Hash,
        own: OwnLog,
        seen: Seen,
        others: Others,
        anchors: AnchorFile,
        db: Reader,
    ) -> Self {
        let (sent, failed_at) = (None, None);
        Self { identity, membership, own, seen, others, anchors, db, sent, failed_at }
    }

    /// Where this life's log ends; nowhere before the first segment.
    pub(super) fn end(&self) -> Option<Dep> {
        let own = &self.own;
        let (machine, incarnation) = (self.identity.machine, own.incarnation);
        let seq = own.next_seq.checked_sub(1)?;
        Some(Dep { machine, incarnation, seq, hash: own.last })
    }

    /// What the store has confirmed it must show from now on.
    fn raise_anchors(&mut self) -> Result<()> {
        let mut anchors = self.anchors.saved.clone().unwrap_or_default();
        for end in self.seen.heads.iter().copied().chain(self.end()) {
            anchors.raise(end);
        }
        self.anchors.save(anchors)
    }
}

impl Inner {
    /// Waits until everything so far is in the store.
    pub(super) async fn sync_store(&self) -> vfs::Result<()> {
        self.sync_to_store(|_| true).await
    }

    /// The same, but minds only changes of files that `concerns` names.
    pub(super) async fn sync_to_store(&self, concerns: impl Fn(u64) -> bool) -> vfs::Result<()> {
        let unmerged = self.upload().await.map_err(told)?;
        let is_meant = |e: &Error| matches!(e, Error::Unmerged { ino, .. } if concerns(*ino));
        unmerged.into_iter().find(is_meant).map_or(Ok(()), |error| Err(told(error)))
    }

    /// Commits, uploads and announces everything so far. Answers of which files the
    /// latest changes could not be, while all else was.
    pub(super) async fn upload(&self) -> Result<Vec<Error>> {
        if self.settings.read_only {
            return Ok(Vec::new());
        }
        let result = self.publish_for_all().await;
        let is_out_of_reach = |error: &Error| error.kind() == vfs::ErrorKind::Unavailable;
        let (worst, tries_again) = match &result {
            // What is damaged is not tried again, unasked, before the next change.
            Ok(unmerged) => (unmerged.first(), unmerged.iter().any(is_out_of_reach)),
            Err(error) => (Some(error), true),
        };
        if tries_again {
            self.has_unsent.store(true, Ordering::Release);
        }
        *self.last_error.lock() = worst.map(ToString::to_string);
        result
    }

    /// Publishes, unless whoever was at it meanwhile did so for this caller too, or found
    /// that the store is out of reach.
    async fn publish_for_all(&self) -> Result<Vec<Error>> {
        let (wanted, asked_at) = (self.state.lock().seq, self.env.monotonic());
        let mut publisher = match self.publisher.try_lock() {
            Ok(publisher) => publisher,
            Err(_) => {
                let publisher = self.publisher.lock().await;
                if publisher.sent.is_some_and(|sent| sent >= wanted) {
                    return Ok(Vec::new());
                }
                if publisher.failed_at.is_some_and(|failed_at| failed_at >= asked_at) {
                    let error = store::Error::new(store::ErrorKind::Offline);
                    return Err(error.at(self.store.location()).into());
                }
                publisher
            }
        };
        let result = self.publish(&mut publisher).await;
        let is_out_of_reach = |error: &Error| error.kind() == vfs::ErrorKind::Unavailable;
        let has_failed = result.as_ref().is_err_and(is_out_of_reach);
        publisher.failed_at = has_failed.then(|| self.env.monotonic());
        result
    }

    async fn publish(&self, publisher: &mut Publisher) -> Result<Vec<Error>> {
        let (last_outbox, packs, draft, unmerged, committed) = {
            let mut committer = self.committer.lock().await;
            let unmerged = self.commit_for_upload(&mut committer).await?;
            // What is committed from here on is for the next upload.
            self.has_unsent.store(false, Ordering::Release);
            // A checkpoint says what the database says, the log what it may.
            let draft = match unmerged.is_empty() {
                true => self.draft_checkpoint(&publisher.own)?,
                false => None,
            };
            // All that the log refers to; what is closed from here on is for the next too.
            let mut packs = self.blocks.packs_in(PackState::Uploaded);
            packs.extend(self.blocks.packs_in(PackState::Closed));
            let committed = self.committed.load(Ordering::Acquire);
            (committer.last_outbox, packs, draft, unmerged, committed)
        };
        // Nobody needs a checkpoint to read what is sent; the next upload tries again.
        let warn = |error: &Error| log::warn!("no checkpoint was written: {error}");
        let built = draft
            .map(|draft| blocking(|| self.build_checkpoint(draft, &packs)))
            .and_then(|built| built.inspect_err(warn).ok());
        self.upload_packs().await?;
        let Publisher { others, seen, .. } = publisher;
        others.check(&*self.store, self.blocks.keyring(), seen).await?;
        self.make_segments(publisher, last_outbox, &packs)?;
        self.send_segments(publisher).await?;
        if let Some(built) = built {
            drop(self.write_checkpoint(publisher, built).await.inspect_err(warn));
        }
        if publisher.own.told_seq != publisher.own.next_seq {
            self.send_head(publisher).await?;
        }
        if unmerged.is_empty() {
            publisher.sent = Some(committed);
        }
        self.blocks.shrink_cache(self.settings.cache_size_max);
        Ok(unmerged)
    }

    /// Uploads the packs that are full, unless somebody uploads already.
    pub(super) async fn upload_full_packs(&self) -> Result<()> {
        match self.publisher.try_lock() {
            Ok(_publisher) => self.upload_packs().await,
            Err(_) => Ok(()),
        }
    }

    /// Uploads every closed pack; the caller holds the publisher.
    async fn upload_packs(&self) -> Result<()> {
        let Some(inner) = self.itself.upgrade() else { return Ok(()) };
        let limit = Arc::new(tokio::sync::Semaphore::new(
            self.settings.concurrent_uploads_max.max(1) as usize,
        ));
        let mut uploads = tokio::task::JoinSet::new();
        for info in self.blocks.packs_in(PackState::Closed) {
            let (inner, limit) = (inner.clone(), limit.clone());
            uploads.spawn(async move {
                let _permit = limit.acquire_owned().await;
                inner.blocks.upload(&info).await
            });
        }
        let mut result = Ok(());
        while let Some(done) = uploads.join_next().await {
            match done {
                Ok(Ok(())) => {}
                Ok(Err(error)) => result = Err(error.into()),
                Err(error) => {
                    let source = std::io::Error::other(error);
                    result = Err(Error::Local { path: self.settings.cache_dir.clone(), source });
                }
            }
        }
        result
    }

    /// Turns the outbox up to `last_outbox` into signed segments, a piece at a time; its
    /// segments, the rows they came from and this machine's place in its log change
    /// together. Only the last segment of all ends the batch: what a crash leaves of one
    /// is ended by the next upload.
    fn make_segments(
        &self,
        publisher: &mut Publisher,
        last_outbox: i64,
        mut packs: &[PackInfo],
    ) -> Result<()> {
        loop {
            let rows = publisher.db.piece(Table::Outbox, (0, last_outbox), PIECE_LEN)?;
            if rows.is_empty() && packs.is_empty() {
                return Ok(());
            }
            let last = rows.last().map_or(last_outbox, |(row, _)| *row);
            let mut groups = Vec::new();
            for (_, row) in &rows {
                groups.extend(Group::decode_all(row)?);
            }
            let first = groups.first().map_or_else(|| self.state.lock().hlc, |group| group.hlc);
            let announced = packs
                .chunks(GROUP_OPS_MAX)
                .map(|packs| Group { hlc: first, ops: packs.iter().map(announce).collect() });
            let groups: Vec<Group> = announced.chain(groups).collect();
            let mut own = publisher.own;
            let made = self.cut_segments(publisher, &mut own, groups, last == last_outbox)?;
            self.db.write(|txn| {
                for segment in &made {
                    txn.put(Table::Sending, Key::Int(segment.seq as i64), &segment.sealed)?;
                }
                for info in packs {
                    let state = PackState::Announced;
                    let row = crate::meta::row::PackRow { state, info: *info };
                    txn.put(Table::Pack, Key::Bytes(&info.pack.0), &row.encode())?;
                }
                txn.delete_through(Table::Outbox, last)?;
                own.save(txn)
            })?;
            publisher.own = own;
            blocking(|| self.blocks.announced(packs));
            packs = &[];
        }
    }

    fn cut_segments(
        &self,
        publisher: &Publisher,
        own: &mut OwnLog,
        groups: Vec<Group>,
        ends_batch: bool,
    ) -> Result<Vec<Made>> {
        let keyring = self.blocks.keyring();
        let mut made = Vec::new();
        let mut runs: Vec<(Vec<Group>, usize)> = vec![(Vec::new(), 0)];
        for group in groups {
            let mut w = Writer::new();
            group.encode(&mut w);
            let len = w.len();
            own.since_checkpoint += len as u64;
            match runs.last_mut() {
                Some((run, run_len)) if *run_len + len <= GROUPS_LEN_MAX || run.is_empty() => {
                    run.push(group);
                    *run_len += len;
                }
                _ => runs.push((vec![group], len)),
            }
        }
        let last = runs.len() - 1;
        for (index, (groups, _)) in runs.into_iter().enumerate() {
            let keys = keyring.current();
            let segment = Segment {
                namespace: keyring.namespace,
                epoch: keys.epoch().0,
                membership: publisher.membership,
                machine: publisher.identity.machine,
                incarnation: own.incarnation,
                seq: own.next_seq,
                previous: own.last,
                ends_batch: ends_batch && index == last,
                deps: publisher.seen.heads.iter().take(DEPS_MAX).copied().collect(),
                groups,
            };
            let mut signed = segment.encode();
            publisher.identity.signing.sign_onto(SignatureKind::Segment, &mut signed);
            let (machine, seq) = (segment.machine, segment.seq);
            let context = Context::segment(keyring.namespace, machine, own.incarnation, seq);
            let sealed = envelope::seal(&self.env, keys, &context, &signed)?;
            own.last = Hash(*blake3::hash(&signed).as_bytes());
            own.next_seq += 1;
            made.push(Made { seq, sealed });
        }
        Ok(made)
    }

    /// Sends what is signed, oldest first.
    async fn send_segments(&self, publisher: &mut Publisher) -> Result<()> {
        let keys = self.blocks.keyring().current();
        loop {
            let waiting = publisher.db.piece(Table::Sending, (-1, i64::MAX), PIECE_LEN)?;
            let Some(last) = waiting.last().map(|(seq, _)| *seq) else { break };
            for (seq, sealed) in waiting {
                let machine = publisher.identity.machine;
                let name = names::segment(keys, machine, publisher.own.incarnation, seq as u64);
                let name = object_name(&name);
                let body = bytes::Bytes::from(sealed);
                let put = self.store.put(&name, body.clone(), PutMode::CreateIfAbsent).await?;
                // There already: our own, from before a crash, or somebody else uses
                // this identity.
                if put == PutOutcome::AlreadyThere && self.store.get(&name, None).await? != body {
                    return Err(Error::Fork { machine, seq: seq as u64 });
                }
            }
            self.db.write(|txn| txn.delete_through(Table::Sending, last))?;
        }
        publisher.raise_anchors()
    }
}

fn announce(info: &PackInfo) -> Op {
    Op::PackAdd { pack: info.pack, epoch: info.epoch, size: info.size, dir_hash: info.dir_hash }
}

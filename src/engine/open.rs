//! Opening a namespace: unlock, verify, and go on from the local database, or
//! make it anew from the store.

use super::anchors::{AnchorFile, Anchors};
use super::commit::Committer;
use super::follow::{Folded, Source, fold_all};
use super::identity::{Identity, load_pin, save_pin};
use super::membership::{Chain, newest_header, unlock};
use super::others::{Others, catch_up};
use super::publish::Publisher;
use super::{Engine, Error, Inner, Numbers, Patience, Progress, Result, Settings};
use crate::crypto::{Key32, MasterKey, SignatureKind, envelope, names};
use crate::data::blocks::{Blocks, Policy};
use crate::env::Env;
use crate::ids::{Hash, Hlc, Incarnation, MachineId};
use crate::log::object_name;
use crate::log::op::{FILE_LEN_MAX, Node, Op};
use crate::log::record::{Head, IncarnationRecord};
use crate::meta::db::{Db, Key, Reader, STATE_CACHE_KIB, Table, Txn};
use crate::meta::row::Inode;
use crate::meta::singles::{OwnLog, Position, Seen, Single};
use crate::meta::state::{ROOT, State, Usage, decode_inode_row, encode_slot, malformed};
use crate::store::{BlobStore, PutMode, PutOutcome};
use crate::vault::{self, Credential};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use vfs::{Timestamp, WriteVerifier};

/// Who may do what, checked and unlocked.
struct Unlocked {
    master: MasterKey,
    identity: Identity,
    chain: Chain,
}

impl Engine {
    /// Opens the first namespace of the vault in `store`.
    pub async fn open(
        store: Arc<dyn BlobStore>,
        credential: &Credential,
        settings: Settings,
        env: Env,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let unlocked = unlock_vault(&*store, credential, &settings, &env).await?;
        let dir = &settings.state_dir;
        let keyring = Arc::new(unlocked.chain.keyring());
        let namespace = keyring.namespace;
        let (master, identity) = (&unlocked.master, &unlocked.identity);
        let mut anchors = AnchorFile::open(dir, master, identity, namespace, &env)?;
        if let Some(anchors) = &anchors.saved {
            anchors.check_chain(&unlocked.chain)?;
        }
        let machine_key = unlocked.master.machine_key(unlocked.identity.machine);
        let db = Db::open(dir, &machine_key, env.clone())?;
        let source = Source { store: &*store, chain: &unlocked.chain, keyring: &keyring };
        let reader = db.reader()?;
        let has_unsent = reader.count(Table::Outbox)? + reader.count(Table::Sending)? > 0
            || !reader.patched_inodes()?.is_empty();
        let known = match OwnLog::load(&reader)? {
            Some(own)
                if !(settings.read_only && has_unsent)
                    && is_behind(&source, &unlocked, &own, anchors.saved.as_ref()).await? =>
            {
                if has_unsent {
                    return Err(Error::Diverged);
                }
                log::warn!("the local state is older than what it wrote: reading it again");
                None
            }
            known => known,
        };
        if known.is_none() {
            // Also what is left of an attempt that did not come to its end.
            db.clear()?;
        }
        let policy = Policy {
            unsent_dir: settings.state_dir.join("unsent"),
            cache_dir: settings.cache_dir.clone(),
            cache_size_max: settings.cache_size_max,
            memory_max: settings.memory_max / 2,
            pack_size_max: settings.pack_size_max,
            compression: settings.compression,
            dedup: settings.dedup,
        };
        let blocks =
            Blocks::open(keyring.clone(), policy, store.clone(), env.clone(), db.reader()?)?;
        let name_key = || Key32::copy_of(keyring.fixed.dentry_key().expose());
        let mut state = State::new(db.reader()?, name_key(), Hlc(0), Usage::default());
        let local = (&mut state, &db, &blocks);
        let mut own = match known {
            Some(own) => {
                remove_orphans(&db)?;
                // A look at what is here must work whatever others do.
                if !settings.read_only {
                    check_shown(&source, &unlocked, &own, &reader).await?;
                }
                if !(has_unsent && settings.read_only) {
                    let machine = unlocked.identity.machine;
                    catch_up(&source, (machine, &own), has_unsent, local, progress).await?;
                }
                own
            }
            None => {
                let known = anchors.saved.as_ref();
                build(&source, (&unlocked, known), local, &env, progress).await?
            }
        };
        let mut position = Position::load(&reader)?.ok_or(Error::NoState)?;
        if position.usage == Usage::default() {
            // Others' changes were taken in; the root alone would be one.
            position.usage = count_usage(&db)?;
            db.write(|txn| position.save(txn))?;
        }
        let seen = Seen::load(&reader)?.unwrap_or_default();
        if !settings.read_only {
            if !own.is_announced {
                announce_life(&source, &unlocked, &own, position.hlc, &env).await?;
                own.is_announced = true;
                let is_fresh = seen.heads.is_empty();
                db.write(|txn| {
                    if is_fresh {
                        claim_root(txn, position.hlc, &env)?;
                    }
                    own.save(txn)
                })?;
            }
            let mut anchored = anchors.saved.clone().unwrap_or_default();
            let newest = unlocked.chain.newest();
            anchored.membership = (newest.n(), Hash(*newest.hash()));
            seen.heads.iter().for_each(|end| anchored.raise(*end));
            anchors.save(anchored)?;
        }
        let member = unlocked.chain.newest().member(unlocked.identity.machine);
        let slot = member.map_or(0, |member| member.slot);
        let state =
            State::new(db.reader_with(STATE_CACHE_KIB)?, name_key(), position.hlc, position.usage);
        let committer = Committer::load(&reader)?;
        let block_size = unlocked.chain.newest().body().block_size.into();
        let membership = Hash(*unlocked.chain.newest().hash());
        let Unlocked { identity, master, chain } = unlocked;
        let nfs_handle_key = master.nfs_handle_key(identity.machine, namespace);
        let others = Others::new(master, chain, identity.machine);
        let publisher = Publisher::new(identity, membership, own, seen, others, anchors, reader);
        let verifier = WriteVerifier(u64::from_le_bytes(env.random_array()));
        let numbers = Numbers {
            slot,
            incarnation: own.incarnation,
            next: position.next_number,
            reserved: position.next_number,
        };
        let inner = Arc::new_cyclic(|itself| Inner {
            settings,
            env,
            block_size,
            blocks,
            db,
            store,
            itself: itself.clone(),
            state: Mutex::new(state),
            numbers: Mutex::new(numbers),
            locks: vfs::LockTable::new(),
            committer: tokio::sync::Mutex::new(committer),
            publisher: tokio::sync::Mutex::new(publisher),
            committed: AtomicU64::new(0),
            // The first upload finds out.
            has_unsent: AtomicBool::new(true),
            verifier,
            nfs_handle_key,
            is_broken: AtomicBool::new(false),
            last_error: Mutex::new(None),
            background: super::background::Background::default(),
        });
        let engine = Self { inner, patience: Patience::default() };
        engine.inner.reserve_numbers()?;
        Ok(engine)
    }
}

async fn unlock_vault(
    store: &dyn BlobStore,
    credential: &Credential,
    settings: &Settings,
    env: &Env,
) -> Result<Unlocked> {
    let header = newest_header(store).await?;
    let dir = &settings.state_dir;
    let pin = load_pin(dir)?;
    let header = header.ok_or_else(|| match pin {
        None => Error::NoVault { store: store.location() },
        Some(_) => Error::VaultGone { store: store.location(), state_dir: dir.clone() },
    })?;
    if let Some(pin) = &pin {
        vault::check_pin(&header, pin)?;
    }
    let master = unlock(&header, credential)?;
    if pin.is_none_or(|pin| pin.generation < header.generation()) && !settings.read_only {
        save_pin(dir, &vault::Pin::of(&header))?;
    }
    let mut chain = Chain::load(store, &master).await?;
    let (shown, joined) = (header.generation(), chain.newest().body().vault_generation_min);
    if shown < joined {
        log::warn!(
            "the store shows generation {shown} of the vault header, and a machine has joined with generation {joined}: an old one was put back, and passwords that were changed since open the vault again"
        );
    }
    let identity = match Identity::load(dir, &master)? {
        Some(identity) => identity,
        None => {
            let identity = Identity::generate(env);
            identity.save(dir, &master, env)?;
            identity
        }
    };
    if !settings.read_only {
        let label = settings.label.clone();
        chain.enrol(store, (&master, &header), (&identity, label), env).await?;
    }
    Ok(Unlocked { master, identity, chain })
}

/// Whether the store, or this machine's anchors, know more of this life than its
/// database does: that is then an old copy.
async fn is_behind(
    source: &Source<'_>,
    unlocked: &Unlocked,
    own: &OwnLog,
    anchors: Option<&Anchors>,
) -> Result<bool> {
    let machine = unlocked.identity.machine;
    let anchor = anchors.and_then(|anchors| anchors.of(machine, own.incarnation));
    if anchor.is_some_and(|end| end.seq >= own.next_seq) {
        return Ok(true);
    }
    source.has_segment(machine, own.incarnation, own.next_seq).await
}

/// Checks that the store still has the end of every log that is in the database: a
/// machine that writes on behind a gap makes a vault that nobody else can read.
async fn check_shown(
    source: &Source<'_>,
    unlocked: &Unlocked,
    own: &OwnLog,
    db: &Reader,
) -> Result<()> {
    let mut sending = u64::MAX;
    db.scan::<Error>(Table::Sending, |key, _| {
        sending = sending.min(key.try_into().map_or(0, u64::from_be_bytes));
        Ok(())
    })?;
    let seen = Seen::load(db)?.unwrap_or_default();
    let mut ends: Vec<_> =
        seen.heads.iter().map(|end| (end.machine, end.incarnation, end.seq)).collect();
    if let Some(seq) = own.next_seq.min(sending).checked_sub(1) {
        ends.push((unlocked.identity.machine, own.incarnation, seq));
    }
    for (machine, incarnation, seq) in ends {
        if !source.has_segment(machine, incarnation, seq).await? {
            return Err(Error::Rollback { machine, seq });
        }
    }
    Ok(())
}

/// Makes the local database from the store and starts a new life of this machine.
async fn build(
    source: &Source<'_>,
    (unlocked, anchors): (&Unlocked, Option<&Anchors>),
    (state, db, blocks): (&mut State, &Db, &Blocks),
    env: &Env,
    progress: &dyn Progress,
) -> Result<OwnLog> {
    let machine = unlocked.identity.machine;
    let created = Hlc(unlocked.chain.records.first().map_or(0, |record| record.body().created));
    let root = root_inode(created);
    let mut logs = source.find_logs().await?;
    let lives = logs.iter().filter(|log| log.machine == machine).count();
    let mut start = None;
    for record in source.checkpoints().await? {
        match source.load_checkpoint(&record, &mut logs, (&mut *state, db, blocks), progress).await
        {
            Ok(folded) => {
                start = Some(folded);
                break;
            }
            Err(error) if error.kind() == vfs::ErrorKind::Unavailable => return Err(error),
            Err(error) => {
                log::warn!("a checkpoint cannot be used, trying without it: {error}");
                db.clear()?;
            }
        }
    }
    let start = match start {
        Some(folded) => folded,
        None => {
            db.write(|txn| txn.put(Table::Ino, Key::ino(ROOT), &encode_slot(&root, 0, false)))?;
            Folded::default()
        }
    };
    let folded = fold_all(source, &mut logs, state, (db, blocks), start, progress).await?;
    if let Some(anchors) = anchors {
        check_anchors(source, anchors, &folded).await?;
    }
    let own_head = check_heads(source, machine, &folded).await?;
    let usage = count_usage(db)?;
    let slot = unlocked.chain.newest().member(machine).map_or(0, |m| m.slot);
    let last = folded.last_number.get(&u64::from(slot)).copied().unwrap_or(0);
    // Numbers that an earlier life gave to what is deleted since, or to what it
    // never published, stay unused.
    let next_number =
        if last == 0 && lives == 0 { 1 } else { (last / Numbers::LIFE + 1) * Numbers::LIFE };
    let own = OwnLog {
        incarnation: Incarnation::random(env),
        next_seq: 0,
        last: Hash([0; 32]),
        next_head: own_head.map_or(0, |head| head.counter + 1),
        told_seq: 0,
        next_checkpoint: source.next_checkpoint(machine).await?,
        since_checkpoint: 0,
        checkpoint: None,
        checkpoint_len: 0,
        is_announced: false,
    };
    let hlc = state.hlc.max(created).next(env.now());
    let seen = folded.seen();
    db.write(|txn| {
        Position { next_number, hlc, usage }.save(txn)?;
        seen.save(txn)?;
        own.save(txn)
    })?;
    Ok(own)
}

/// Checks that every log goes as far as its author says; answers the own head.
async fn check_heads(source: &Source<'_>, own: MachineId, folded: &Folded) -> Result<Option<Head>> {
    let mut own_head = None;
    for member in &source.chain.newest().body().members {
        let machine = member.machine;
        let Some(head) = source.newest_head(machine).await? else { continue };
        if let Some(last) = head.next_seq.checked_sub(1) {
            let end = folded.heads.get(&(machine, head.incarnation));
            if end.is_none_or(|end| end.seq < last) {
                let seq = end.map_or(0, |end| end.seq + 1);
                return Err(Error::Withheld { machine, seq });
            }
            if end.is_some_and(|end| end.seq == last && end.hash != head.last) {
                return Err(Error::Fork { machine, seq: last });
            }
        }
        if machine == own {
            own_head = Some(head);
        }
    }
    Ok(own_head)
}

/// Checks that the store still shows everything that this machine has seen.
async fn check_anchors(source: &Source<'_>, anchors: &Anchors, folded: &Folded) -> Result<()> {
    for end in &anchors.logs {
        let rollback = Error::Rollback { machine: end.machine, seq: end.seq };
        let Some(now) = folded.heads.get(&(end.machine, end.incarnation)) else {
            return Err(rollback);
        };
        let is_shown = now.seq == end.seq && now.hash == end.hash
            || now.seq > end.seq && source.segment_hash(end).await? == Some(end.hash);
        if !is_shown {
            return Err(rollback);
        }
    }
    Ok(())
}

/// The root directory of a namespace nobody has written to.
fn root_inode(created: Hlc) -> Inode {
    let created_ms = created.0 >> 16;
    let time = Timestamp {
        seconds: (created_ms / 1000) as i64,
        nanoseconds: (created_ms % 1000) as u32 * 1_000_000,
    };
    Inode::new(Node::Directory, 0o755, 0, 0, time)
}

/// The root of a new namespace belongs to who first opens it.
fn claim_root(txn: &Txn<'_>, hlc: Hlc, env: &Env) -> crate::meta::db::Result<()> {
    let Some(row) = txn.get(Table::Ino, Key::ino(ROOT))? else { return Ok(()) };
    let (mut root, ..) = decode_inode_row(&row).map_err(|e| malformed(Table::Ino, e))?;
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let now = env.now();
    let op = Op::SetAttr {
        ino: ROOT,
        mode: None,
        uid: Some(uid),
        gid: Some(gid),
        atime: Some(now),
        mtime: Some(now),
        ctime: now,
    };
    (root.uid, root.gid) = (uid, gid);
    (root.atime, root.mtime, root.ctime) = (now, now, now);
    txn.put(Table::Ino, Key::ino(ROOT), &encode_slot(&root, 0, false))?;
    let mut w = crate::codec::Writer::new();
    crate::log::op::Group { hlc, ops: vec![op] }.encode(&mut w);
    txn.put(Table::Outbox, Key::Int(1), w.as_slice())
}

/// Writes the incarnation record that lets others find this life's log.
async fn announce_life(
    source: &Source<'_>,
    unlocked: &Unlocked,
    own: &OwnLog,
    hlc: Hlc,
    env: &Env,
) -> Result<()> {
    let (machine, namespace) = (unlocked.identity.machine, source.keyring.namespace);
    let first = source.keyring.epoch(0).ok_or(Error::NoKey { epoch: 0 })?;
    for index in 0.. {
        if let Some(known) = source.incarnation(machine, index).await? {
            if known.incarnation == own.incarnation {
                // Announced before a crash.
                return Ok(());
            }
            continue;
        }
        let record = IncarnationRecord {
            namespace,
            machine,
            index,
            incarnation: own.incarnation,
            hlc,
            membership: Hash(*unlocked.chain.newest().hash()),
        };
        let mut signed = record.encode();
        unlocked.identity.signing.sign_onto(SignatureKind::Incarnation, &mut signed);
        let context = crate::crypto::Context::incarnation(namespace, machine, index);
        let sealed = envelope::seal(env, first, &context, &signed)?;
        let name = object_name(&names::incarnation(first, machine, index));
        let put = source.store.put(&name, sealed.into(), PutMode::CreateIfAbsent).await?;
        return match put {
            PutOutcome::Created => Ok(()),
            PutOutcome::AlreadyThere => Err(Error::Raced { name: name.to_string() }),
        };
    }
    Ok(())
}

/// Counts what there is.
pub(super) fn count_usage(db: &Db) -> Result<Usage> {
    let mut usage = Usage::default();
    db.reader()?.scan::<Error>(Table::Ino, |_, row| {
        let (inode, _, _) = decode_inode_row(row).map_err(|e| malformed(Table::Ino, e))?;
        usage.bytes = usage.bytes.saturating_add(inode.used).min(FILE_LEN_MAX);
        usage.inodes += 1;
        Ok(())
    })?;
    Ok(usage)
}

/// Removes what had no name but was open when the last run ended.
fn remove_orphans(db: &Db) -> Result<()> {
    let mut orphans = Vec::new();
    db.reader()?.scan::<Error>(Table::Orphan, |key, _| {
        orphans.extend(key.try_into().map(i64::from_be_bytes));
        Ok(())
    })?;
    if orphans.is_empty() {
        return Ok(());
    }
    Ok(db.write(|txn| {
        let mut position = Position::load_in(txn)?;
        for ino in orphans {
            if let Some(row) = txn.get(Table::Ino, Key::Int(ino))? {
                let (inode, ..) = decode_inode_row(&row).map_err(|e| malformed(Table::Ino, e))?;
                if let Some(position) = &mut position {
                    position.usage.bytes = position.usage.bytes.saturating_sub(inode.used);
                }
            }
            txn.delete(Table::Ino, Key::Int(ino))?;
            txn.delete_patches(ino as u64, 0, u64::MAX)?;
            txn.delete(Table::Orphan, Key::Int(ino))?;
        }
        if let Some(position) = position {
            position.save(txn)?;
        }
        Ok(())
    })?)
}

impl Inner {
    /// Reserves the numbers of this run before any is handed out.
    fn reserve_numbers(&self) -> Result<()> {
        let (hlc, usage) = {
            let state = self.state.lock();
            (state.hlc, state.usage)
        };
        let mut numbers = self.numbers.lock();
        let next_number = numbers.next + Numbers::RESERVE;
        self.db.write(|txn| Position { next_number, hlc, usage }.save(txn))?;
        numbers.reserved = next_number;
        Ok(())
    }
}

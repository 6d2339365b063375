//! Whoever runs the store: keeps everything that it was ever given, and shows what it
//! likes. And a vault with an object of every kind, small enough to attack each.

use super::vault::{World, credential, cx, name, noise, read, write};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tgcryptfs::crypto::kdf::Argon2Params;
use tgcryptfs::crypto::{Context, EpochKeys, MasterKey, NamespaceKeys, envelope, names};
use tgcryptfs::engine::{Engine, Error, Settings, Silent, newest_header, unlock};
use tgcryptfs::env::Env;
use tgcryptfs::log::object_name;
use tgcryptfs::log::op::Op;
use tgcryptfs::log::record::{CheckpointRecord, IncarnationRecord};
use tgcryptfs::log::segment::Segment;
use tgcryptfs::store::{
    BlobStore, Capabilities, MemoryStore, ObjectInfo, ObjectName, PutMode, PutOutcome, Result,
};
use tgcryptfs::vault::{Credential, KeyFile, MembershipRecord};
use vfs::Stability::Buffered;
use vfs::{ErrorKind, Ino, Make, SetAttr, Vfs};
use zeroize::Zeroizing;

/// A store that forgets nothing.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    objects: MemoryStore,
    /// What was stored and, without a body, removed.
    history: Mutex<Vec<(ObjectName, Option<Bytes>)>>,
}

impl Recorder {
    fn note(&self, name: &ObjectName, body: Option<Bytes>) {
        self.history.lock().unwrap().push((*name, body));
    }

    /// How much has happened so far.
    pub(crate) fn age(&self) -> usize {
        self.history.lock().unwrap().len()
    }

    /// The store as it was when so much had happened.
    pub(crate) fn at(&self, age: usize) -> BTreeMap<ObjectName, Bytes> {
        let mut objects = BTreeMap::new();
        for (name, body) in &self.history.lock().unwrap()[..age] {
            match body {
                Some(body) => drop(objects.insert(*name, body.clone())),
                None => drop(objects.remove(name)),
            }
        }
        objects
    }

    /// Everything that was ever stored.
    pub(crate) fn everything(&self) -> Vec<(ObjectName, Bytes)> {
        let history = self.history.lock().unwrap();
        history.iter().filter_map(|(name, body)| Some((*name, body.clone()?))).collect()
    }
}

#[async_trait]
impl BlobStore for Recorder {
    fn capabilities(&self) -> Capabilities {
        // As one over the network, so that the cache of parts is used too.
        Capabilities { is_local: false, ..self.objects.capabilities() }
    }

    fn location(&self) -> String {
        self.objects.location()
    }

    async fn put(&self, name: &ObjectName, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        let outcome = self.objects.put(name, body.clone(), mode).await?;
        if outcome == PutOutcome::Created {
            self.note(name, Some(body));
        }
        Ok(outcome)
    }

    async fn put_file(&self, name: &ObjectName, path: &Path, mode: PutMode) -> Result<PutOutcome> {
        self.put(name, std::fs::read(path).unwrap().into(), mode).await
    }

    async fn get(&self, name: &ObjectName, range: Option<Range<u64>>) -> Result<Bytes> {
        self.objects.get(name, range).await
    }

    async fn size(&self, name: &ObjectName) -> Result<Option<u64>> {
        self.objects.size(name).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        self.objects.list(prefix).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<()> {
        self.note(name, None);
        self.objects.delete(name).await
    }
}

/// A store that shows these objects.
pub(crate) async fn showing(objects: &BTreeMap<ObjectName, Bytes>) -> Arc<MemoryStore> {
    let store = MemoryStore::new();
    for (name, body) in objects {
        store.put(name, body.clone(), PutMode::Overwrite).await.unwrap();
    }
    Arc::new(store)
}

/// What an object is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Header,
    Membership,
    Incarnation,
    Segment,
    Head,
    Checkpoint,
    NodePack,
    DataPack,
}

/// What whoever has the master key knows of a vault.
pub(crate) struct Insider {
    pub(crate) master: MasterKey,
    pub(crate) chain: Vec<MembershipRecord>,
    pub(crate) keys: EpochKeys,
    pub(crate) kinds: BTreeMap<ObjectName, Kind>,
    /// What each sealed object was opened as.
    pub(crate) contexts: BTreeMap<ObjectName, Context>,
    /// Names of packs by their ids.
    pub(crate) packs: BTreeMap<ObjectName, tgcryptfs::crypto::PackId>,
}

impl Insider {
    /// Finds out what every object of a store is, through the codecs alone.
    pub(crate) async fn look_into(store: &dyn BlobStore) -> Self {
        let header = newest_header(store).await.unwrap().unwrap();
        let master = unlock(&header, &key_file()).unwrap();
        let ns = master.namespace_id(0);
        let mut kinds = BTreeMap::new();
        for info in store.list("vault.").await.unwrap() {
            kinds.insert(info.name, Kind::Header);
        }
        let mut chain: Vec<MembershipRecord> = Vec::new();
        loop {
            let key = master.membership_name_key(ns);
            let name = object_name(&names::membership(&key, ns, chain.len() as u64));
            let Ok(object) = store.get(&name, None).await else { break };
            kinds.insert(name, Kind::Membership);
            chain.push(match chain.last() {
                None => MembershipRecord::open_first(&master, 0, &object).unwrap(),
                Some(last) => last.open_next(&master, &object).unwrap(),
            });
        }
        let newest = chain.last().unwrap();
        let keys = EpochKeys::new(ns, newest.epoch(), newest.epoch_secret());
        let (contexts, packs) = (BTreeMap::new(), BTreeMap::new());
        let mut insider = Self { master, chain, keys, kinds, contexts, packs };
        insider.follow_logs(store).await;
        insider
    }

    async fn follow_logs(&mut self, store: &dyn BlobStore) {
        let ns = self.keys.namespace();
        let members: Vec<_> = self.chain.last().unwrap().body().members.clone();
        for member in members {
            let machine = member.machine;
            for index in 0.. {
                let name = object_name(&names::incarnation(&self.keys, machine, index));
                let context = Context::incarnation(ns, machine, index);
                let Some(body) = self.open(store, (&name, Kind::Incarnation), &context).await
                else {
                    break;
                };
                let life = IncarnationRecord::decode(&body).unwrap().incarnation;
                for seq in 0.. {
                    let name = object_name(&names::segment(&self.keys, machine, life, seq));
                    let context = Context::segment(ns, machine, life, seq);
                    let Some(body) = self.open(store, (&name, Kind::Segment), &context).await
                    else {
                        break;
                    };
                    for group in Segment::decode(&body).unwrap().groups {
                        for op in group.ops {
                            if let Op::PackAdd { pack, .. } = op {
                                self.note_pack(pack, Kind::DataPack);
                            }
                        }
                    }
                }
            }
            for number in 0..100 {
                let name = object_name(&names::head(&self.keys, machine, number));
                let context = Context::head(ns, machine, number);
                self.open(store, (&name, Kind::Head), &context).await;
                let name = object_name(&names::checkpoint(&self.keys, machine, number));
                let context = Context::checkpoint(ns, machine, number);
                let body = self.open(store, (&name, Kind::Checkpoint), &context).await;
                for info in body.iter().flat_map(|b| CheckpointRecord::decode(b).unwrap().packs) {
                    self.note_pack(info.pack, Kind::NodePack);
                }
            }
        }
    }

    fn note_pack(&mut self, pack: tgcryptfs::crypto::PackId, kind: Kind) {
        let name = object_name(&names::pack(&self.keys, pack));
        self.kinds.insert(name, kind);
        self.packs.insert(name, pack);
    }

    /// The signed body of an object, if it is there.
    async fn open(
        &mut self,
        store: &dyn BlobStore,
        (name, kind): (&ObjectName, Kind),
        context: &Context,
    ) -> Option<Vec<u8>> {
        let object = store.get(name, None).await.ok()?;
        let opened = envelope::open([&self.keys], context, &object).unwrap();
        self.kinds.insert(*name, kind);
        self.contexts.insert(*name, context.clone());
        let signed = opened.plaintext.len() - 64;
        Some(opened.plaintext[..signed].to_vec())
    }

    pub(crate) fn namespace_keys(&self) -> &NamespaceKeys {
        self.chain[0].namespace_keys()
    }

    /// The names of all objects of a kind.
    pub(crate) fn of_kind(&self, kind: Kind) -> Vec<ObjectName> {
        self.kinds.iter().filter(|(_, is)| **is == kind).map(|(name, _)| *name).collect()
    }
}

/// Opens every vault of these tests without the work that a passphrase takes.
pub(crate) fn key_file() -> Credential {
    Credential::KeyFile(KeyFile::new(Zeroizing::new(vec![7; 32])).unwrap())
}

/// What is in the files of the root directory.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// A vault with objects of every kind, two machines, and what it held over time.
pub(crate) struct Sample {
    pub(crate) world: World,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) insider: Insider,
    /// What was in the files each time everything was uploaded, and the store's age then.
    pub(crate) states: Vec<(usize, Files)>,
    pub(crate) objects: BTreeMap<ObjectName, Bytes>,
}

/// Bytes of a block in these vaults.
pub(crate) const BLOCK: usize = 64 << 10;

impl Sample {
    pub(crate) async fn new() -> Self {
        let recorder = Arc::new(Recorder::default());
        let world = world_on(recorder.clone()).await;
        add_key_file(&world).await;
        let mut states = vec![(recorder.age(), Files::new())];
        let mut files = Files::new();
        let often = |settings: &mut Settings| settings.checkpoint_len_min = 1;
        let a = world.open_with("a", often).await.unwrap();
        let rounds: [&[(&str, Vec<u8>)]; 3] = [
            &[("inline", b"a few words".to_vec()), ("block", noise(40_000, 1))],
            &[("blocks", noise(4 * BLOCK + 5000, 2)), ("text", b"again and ".repeat(9000))],
            &[("inline", b"other words".to_vec()), ("more", noise(BLOCK + 1, 3))],
        ];
        for round in rounds {
            put(&a, &mut files, round).await;
            a.sync().await.unwrap();
            states.push((recorder.age(), files.clone()));
        }
        let (link, attr) = (Make::Symlink { target: b"../etc/passwd" }, SetAttr::default());
        a.make(cx(), Ino::ROOT, name("link"), link, &attr).await.unwrap();
        a.close().await.unwrap();
        drop(a);
        states.push((recorder.age(), files.clone()));
        // Behind the last checkpoint, so that segments are read.
        for (machine, file) in [("b", "from b"), ("a", "from a")] {
            let engine = world.open(machine).await;
            put(&engine, &mut files, &[(file, noise(70_000, file.len() as u64))]).await;
            engine.close().await.unwrap();
            states.push((recorder.age(), files.clone()));
        }
        let insider = Insider::look_into(&*recorder).await;
        let objects = recorder.at(recorder.age());
        assert!(insider.kinds.keys().eq(objects.keys()), "every object is accounted for");
        Self { world, recorder, insider, states, objects }
    }

    pub(crate) fn files(&self) -> &Files {
        &self.states.last().unwrap().1
    }

    pub(crate) fn kind(&self, name: &ObjectName) -> Kind {
        self.insider.kinds[name]
    }

    /// The vault with this in the place of one object, or nothing.
    pub(crate) fn with(
        &self,
        name: &ObjectName,
        body: Option<Bytes>,
    ) -> BTreeMap<ObjectName, Bytes> {
        let mut objects = self.objects.clone();
        match body {
            Some(body) => objects.insert(*name, body),
            None => objects.remove(name),
        };
        objects
    }

    /// What a machine that knows nothing sees in a store.
    pub(crate) async fn look(&self, objects: &BTreeMap<ObjectName, Bytes>) -> Seen {
        match open_fresh(showing(objects).await).await {
            Err(error) => Seen::Refused(error),
            Ok((engine, _dir)) => Seen::Shown(self.files_of(&engine).await),
        }
    }

    /// Every file that there ever was, as it reads now.
    pub(crate) async fn files_of(&self, engine: &Engine) -> Shown {
        let mut shown = Shown::new();
        for file in self.files().keys() {
            match read(engine, file).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => drop(shown.insert(file.clone(), other.map_err(|e| e.kind()))),
            }
        }
        shown
    }
}

/// Files as they read.
pub(crate) type Shown = BTreeMap<String, std::result::Result<Vec<u8>, ErrorKind>>;

/// What a store came to.
#[derive(Debug)]
pub(crate) enum Seen {
    Refused(Error),
    Shown(Shown),
}

/// Whether what is shown is one of these states, but for what reads as damaged.
pub(crate) fn is_a_state<'s>(shown: &Shown, mut states: impl Iterator<Item = &'s Files>) -> bool {
    states.any(|files| {
        shown.keys().eq(files.keys())
            && shown.iter().all(|(file, data)| match data {
                Ok(data) => *data == files[file],
                Err(kind) => *kind == ErrorKind::Corrupt,
            })
    })
}

async fn put(engine: &Engine, files: &mut Files, these: &[(&str, Vec<u8>)]) {
    for (file, data) in these {
        write(engine, file, data.clone(), Buffered).await.unwrap();
        files.insert((*file).to_owned(), data.clone());
    }
}

/// A new vault in this store; its machines need not outlive the test.
pub(crate) async fn world_on(store: Arc<dyn BlobStore>) -> World {
    let world = World { store, dir: scratch(), env: Env::real() };
    world.create("a").await.unwrap();
    world
}

/// Adds a key file to the ways into a vault: its header's second generation.
pub(crate) async fn add_key_file(world: &World) {
    let header = newest_header(&*world.store).await.unwrap().unwrap();
    let master = unlock(&header, &credential()).unwrap();
    let kdf = Argon2Params::new(19 << 10, 2, 1).unwrap();
    let next = header.add_slot(&world.env, &master, &key_file(), kdf).unwrap();
    let name = ObjectName::vault(next.generation());
    world.store.put(&name, next.encode().into(), PutMode::CreateIfAbsent).await.unwrap();
}

/// A directory for a machine that nobody needs after the attack: in memory, if there is
/// room, since every one of thousands syncs its files.
pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A machine that knows nothing and changes nothing.
pub(crate) async fn open_fresh(
    store: Arc<dyn BlobStore>,
) -> std::result::Result<(Engine, TempDir), Error> {
    let dir = scratch();
    let mut settings = Settings::below(dir.path());
    settings.read_only = true;
    std::fs::create_dir(&settings.state_dir).unwrap();
    let engine = Engine::open(store, &key_file(), settings, Env::real(), &Silent).await?;
    Ok((engine, dir))
}

/// Does something for each, on every processor.
pub(crate) fn each<T: Sync>(items: &[T], work: impl AsyncFn(&T) + Sync) {
    Env::real().map(items, |item| super::vault::run(work(item)));
}

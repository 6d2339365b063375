//! A vault whose store is as slow and as far away as the test says.

use super::far::Far;
use super::vault::World;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tgcryptfs::engine::{Engine, Silent};
use tgcryptfs::store::{ErrorKind, Fault, FaultOp, FaultRule, FaultStore, FileStore};

/// What a call of the store takes when it is slow.
pub(crate) const CALL: Duration = Duration::from_secs(1);
/// How many of a thousand calls fail then, done or not.
const FAILING_PERMILLE: u16 = 30;
/// Bytes that may wait for the store.
const DIRTY_MAX: u64 = 16 << 20;
/// What is cached of the store on disk and of the files in memory: less than the files.
const CACHE_MAX: u64 = 8 << 20;
const MEMORY_MAX: u64 = 16 << 20;

/// A vault, its engine, and the weather.
pub(crate) struct Vault {
    world: World,
    faults: Arc<FaultStore>,
    pub(crate) engine: Engine,
}

impl Vault {
    /// A new vault, in fair weather, whose engine works in the background.
    pub(crate) async fn new(store: &Path) -> Self {
        let far = Arc::new(Far(FileStore::create(store).unwrap()));
        let faults = Arc::new(FaultStore::new(far, 7));
        let world = World::on(faults.clone()).await;
        let opened = world.open_with("a", |settings| {
            settings.memory_max = MEMORY_MAX;
            settings.cache_size_max = CACHE_MAX;
            settings.pack_size_max = 4 << 20;
            settings.dirty_max = DIRTY_MAX;
            settings.upload_delay_ms = 2000;
        });
        let engine = opened.await.unwrap();
        engine.start(tokio::runtime::Handle::current());
        Self { world, faults, engine }
    }

    /// Nothing is wrong.
    pub(crate) fn fair(&self) {
        self.faults.heal();
    }

    /// Every call takes a second, and some fail.
    pub(crate) fn slow(&self) {
        self.fair();
        self.faults.set_hook(Some(Arc::new(|_, _| Box::pin(tokio::time::sleep(CALL)))));
        for op in FaultOp::ALL {
            for fault in [Fault::Fail, Fault::FailAfter] {
                let rule = FaultRule::new(op, fault(ErrorKind::Offline));
                self.faults.add(rule.chance_permille(FAILING_PERMILLE));
            }
        }
    }

    /// Every call takes a second and fails.
    pub(crate) fn away(&self) {
        self.slow();
        self.faults.set_outage(Some(ErrorKind::Offline));
    }

    /// How often the store was asked.
    pub(crate) fn calls(&self) -> u64 {
        FaultOp::ALL.into_iter().map(|op| self.faults.calls(op)).sum()
    }

    /// Uploads everything and gives what a new machine sees, which is the same, and whole.
    pub(crate) async fn on_a_new_machine(&self) -> Engine {
        self.engine.sync().await.unwrap();
        let fresh = self.world.open("fresh").await;
        assert_eq!(fresh.state_digest().unwrap(), self.engine.state_digest().unwrap());
        let report = self.engine.fsck(&Silent).await.unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        fresh
    }
}

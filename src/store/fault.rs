//! A store that fails, lags and lies as it is told.
//!
//! It wraps any other store. Rules say what goes wrong, at which operation, with
//! which objects and how often; the first rule that applies to a call acts on
//! it. With the same seed and the same order of calls the same things happen.
//!
//! ```ignore
//! let store = FaultStore::new(inner, 42);
//! // the next two puts are done and then reported as failed
//! let rule = FaultRule::new(FaultOp::Put, Fault::FailAfter(ErrorKind::Offline)).times(2);
//! let id = store.add(rule);
//! // …
//! assert_eq!(store.fired(id), 2);
//! ```
//!
//! What a lying store shows is made from the whole object and then cut to the
//! range asked for, so that ranged reads and whole reads see the same lie.

mod rule;

pub use rule::{Fault, FaultOp, FaultRule, FaultRuleId};

use super::{
    BlobStore, Capabilities, Error, ErrorKind, ObjectInfo, ObjectName, PutMode, PutOutcome, Result,
    clip,
};
use crate::env::Random;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rule::Rules;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

/// Called before each operation, and waited for: to make a call slow, to hold it
/// until a test lets it go, or to look at what is called in which order.
pub type FaultHook = Arc<
    dyn Fn(FaultOp, Option<ObjectName>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync,
>;

/// A store that does to another what its rules say.
pub struct FaultStore {
    inner: Arc<dyn BlobStore>,
    random: Random,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rules: Rules,
    outage: Option<ErrorKind>,
    hook: Option<FaultHook>,
    counters: [Counter; FaultOp::ALL.len()],
    /// What objects were before they were overwritten or deleted, oldest first.
    history: HashMap<ObjectName, Vec<Bytes>>,
}

#[derive(Clone, Copy, Default)]
struct Counter {
    calls: u64,
    bytes: u64,
}

impl std::fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FaultStore").field(&self.inner).finish()
    }
}

/// What a put stores.
enum Body<'a> {
    Bytes(Bytes),
    File(&'a Path),
}

impl FaultStore {
    /// Wraps `inner`; behaves exactly like it until told otherwise.
    #[must_use]
    pub fn new(inner: Arc<dyn BlobStore>, seed: u64) -> Self {
        Self { inner, random: Random::seeded(seed), state: Mutex::default() }
    }

    /// Adds a rule, after those that are there.
    ///
    /// # Panics
    ///
    /// If the rule's fault cannot happen to its operation: a test that relies on
    /// it would prove nothing.
    #[track_caller]
    pub fn add(&self, rule: FaultRule) -> FaultRuleId {
        self.state.lock().rules.add(rule)
    }

    /// Removes one rule.
    pub fn remove(&self, id: FaultRuleId) {
        self.state.lock().rules.remove(id);
    }

    /// Removes all rules, the outage and the hook; the past stays.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.rules.clear();
        state.outage = None;
        state.hook = None;
    }

    /// How often a rule has acted.
    #[must_use]
    pub fn fired(&self, id: FaultRuleId) -> u64 {
        self.state.lock().rules.fired(id)
    }

    /// Lets every call fail with this kind, before any rule, until it is lifted:
    /// the cable is out, the session is revoked, the quota is used up.
    pub fn set_outage(&self, kind: Option<ErrorKind>) {
        self.state.lock().outage = kind;
    }

    /// Calls `hook` before each operation.
    pub fn set_hook(&self, hook: Option<FaultHook>) {
        self.state.lock().hook = hook;
    }

    /// How many calls of this operation there were, failed ones included.
    #[must_use]
    pub fn calls(&self, op: FaultOp) -> u64 {
        self.state.lock().counters[op as usize].calls
    }

    /// How many bytes of objects this operation has moved.
    #[must_use]
    pub fn bytes(&self, op: FaultOp) -> u64 {
        self.state.lock().counters[op as usize].bytes
    }

    /// The store behind it, for looking at what is really there.
    #[must_use]
    pub fn inner(&self) -> &Arc<dyn BlobStore> {
        &self.inner
    }

    fn error(&self, kind: ErrorKind, name: Option<&ObjectName>) -> Error {
        let error = Error::new(kind).at(self.inner.location());
        match name {
            Some(name) => error.named(name),
            None => error,
        }
    }

    /// Waits, counts, and says which fault is to happen after the call was let through.
    async fn begin(&self, op: FaultOp, name: Option<&ObjectName>) -> Result<Option<Fault>> {
        let hook = self.state.lock().hook.clone();
        if let Some(hook) = hook {
            hook(op, name.copied()).await;
        }
        let mut state = self.state.lock();
        state.counters[op as usize].calls += 1;
        if let Some(kind) = state.outage {
            return Err(self.error(kind, name));
        }
        // Those that concern single entries are asked for each entry of a listing.
        let fault = state
            .rules
            .pick(&self.random, op, name, |fault| op != FaultOp::List || !fault.is_of_entries());
        match fault {
            Some(Fault::Fail(kind)) => Err(self.error(kind, name)),
            fault => Ok(fault),
        }
    }

    fn count_bytes(&self, op: FaultOp, bytes: u64) {
        self.state.lock().counters[op as usize].bytes += bytes;
    }

    /// Keeps what an object is now, because it will not be for long.
    async fn remember(&self, name: &ObjectName) -> Result<()> {
        if self.inner.size(name).await?.is_none() {
            return Ok(());
        }
        match self.inner.get(name, None).await {
            Ok(body) => self.state.lock().history.entry(*name).or_default().push(body),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn put_body(
        &self,
        name: &ObjectName,
        body: Body<'_>,
        mode: PutMode,
    ) -> Result<PutOutcome> {
        let fault = self.begin(FaultOp::Put, Some(name)).await?;
        let (after, body) = match fault {
            Some(Fault::FailAfter(kind)) => (Some(kind), body),
            Some(Fault::Ignore) => return Ok(PutOutcome::Created),
            Some(fault) => {
                let whole = match body {
                    Body::Bytes(bytes) => bytes,
                    Body::File(path) => self.read_file(name, path)?,
                };
                (None, Body::Bytes(self.mangle(&fault, whole)))
            }
            None => (None, body),
        };
        if mode == PutMode::Overwrite {
            self.remember(name).await?;
        }
        let (outcome, len) = match body {
            Body::Bytes(bytes) => {
                let len = bytes.len() as u64;
                (self.inner.put(name, bytes, mode).await?, len)
            }
            Body::File(path) => {
                let outcome = self.inner.put_file(name, path, mode).await?;
                (outcome, std::fs::metadata(path).map_or(0, |metadata| metadata.len()))
            }
        };
        self.count_bytes(FaultOp::Put, len);
        after.map_or(Ok(outcome), |kind| Err(self.error(kind, Some(name))))
    }

    fn read_file(&self, name: &ObjectName, path: &Path) -> Result<Bytes> {
        std::fs::read(path).map(Bytes::from).map_err(|error| {
            self.error(ErrorKind::Io, Some(name))
                .detail(format!("cannot read {}", path.display()))
                .because(error)
        })
    }

    /// What the store claims an object to be; `None` if it denies having it.
    async fn forge(&self, fault: &Fault, name: &ObjectName) -> Result<Option<Bytes>> {
        let shown = match fault {
            Fault::Missing => return Ok(None),
            Fault::Swap(other) => other,
            Fault::Replay { back } => {
                let state = self.state.lock();
                let past = state.history.get(name).map(Vec::as_slice).unwrap_or_default();
                let index = past.len().checked_sub(*back);
                return Ok(index.and_then(|index| past.get(index)).cloned());
            }
            _ => name,
        };
        match self.inner.get(shown, None).await {
            Ok(body) => Ok(Some(self.mangle(fault, body))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn mangle(&self, fault: &Fault, body: Bytes) -> Bytes {
        match fault {
            Fault::Truncate { len } => body.slice(..body.len().min(*len)),
            Fault::Extend { by } => {
                let mut longer = BytesMut::from(&*body);
                longer.resize(body.len() + by, 0);
                self.random.fill(&mut longer[body.len()..]);
                longer.freeze()
            }
            Fault::FlipBit if !body.is_empty() => {
                let mut draw = [0; 8];
                self.random.fill(&mut draw);
                let bit = u64::from_le_bytes(draw) % (body.len() as u64 * 8);
                let mut flipped = BytesMut::from(&*body);
                flipped[(bit / 8) as usize] ^= 1 << (bit % 8);
                flipped.freeze()
            }
            Fault::Replace(other) => other.clone(),
            _ => body,
        }
    }
}

#[async_trait]
impl BlobStore for FaultStore {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn space(&self) -> Option<u64> {
        self.inner.space()
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    async fn put(&self, name: &ObjectName, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        self.put_body(name, Body::Bytes(body), mode).await
    }

    async fn put_file(&self, name: &ObjectName, path: &Path, mode: PutMode) -> Result<PutOutcome> {
        self.put_body(name, Body::File(path), mode).await
    }

    async fn get(&self, name: &ObjectName, range: Option<Range<u64>>) -> Result<Bytes> {
        let body = match self.begin(FaultOp::Get, Some(name)).await? {
            None => self.inner.get(name, range).await?,
            Some(Fault::FailAfter(kind)) => {
                self.inner.get(name, range).await?;
                return Err(self.error(kind, Some(name)));
            }
            Some(fault) => {
                let whole = self.forge(&fault, name).await?;
                let whole = whole.ok_or_else(|| self.error(ErrorKind::NotFound, Some(name)))?;
                let part = clip(range, whole.len() as u64);
                whole.slice(part.start as usize..part.end as usize)
            }
        };
        self.count_bytes(FaultOp::Get, body.len() as u64);
        Ok(body)
    }

    async fn size(&self, name: &ObjectName) -> Result<Option<u64>> {
        match self.begin(FaultOp::Size, Some(name)).await? {
            None => self.inner.size(name).await,
            Some(Fault::FailAfter(kind)) => {
                self.inner.size(name).await?;
                Err(self.error(kind, Some(name)))
            }
            Some(fault) => Ok(self.forge(&fault, name).await?.map(|body| body.len() as u64)),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let fault = self.begin(FaultOp::List, None).await?;
        let listed = self.inner.list(prefix).await?;
        if let Some(Fault::FailAfter(kind)) = fault {
            return Err(self.error(kind, None));
        }
        let mut shown = Vec::with_capacity(listed.len());
        let mut state = self.state.lock();
        for info in listed {
            let name = Some(&info.name);
            match state.rules.pick(&self.random, FaultOp::List, name, Fault::is_of_entries) {
                Some(Fault::Missing) => {}
                Some(Fault::Duplicate) => shown.extend([info.clone(), info]),
                _ => shown.push(info),
            }
        }
        Ok(shown)
    }

    async fn delete(&self, name: &ObjectName) -> Result<()> {
        let fault = self.begin(FaultOp::Delete, Some(name)).await?;
        if let Some(Fault::Ignore) = fault {
            return Ok(());
        }
        self.remember(name).await?;
        self.inner.delete(name).await?;
        match fault {
            Some(Fault::FailAfter(kind)) => Err(self.error(kind, Some(name))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;

//! Calls that block, made aside where they take long.
//!
//! A store in a directory works inline, which on a local disk is cheaper than anything
//! else. The same directory may lie on a network, and then whoever asks is kept from
//! everything else for as long as the network takes: the thread of a connection on which
//! others wait for what needs no store, or one of the few threads that run everything. So
//! it is noted how long calls take, and where that is long they are made by threads whose
//! business it is to wait.

use super::{BlobStore, Capabilities, Error, ErrorKind, ObjectInfo, ObjectName, Result};
use super::{PutMode, PutOutcome};
use async_trait::async_trait;
use bytes::Bytes;
use std::ops::Range;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// What takes this long, on average of the last few calls, is worth another thread,
/// nanoseconds.
const LONG_NS: u64 = 5_000_000;

/// A store whose calls block, made bearable.
#[derive(Debug)]
pub(super) struct Aside<S> {
    store: Arc<S>,
    reads: Arc<Pace>,
    changes: Arc<Pace>,
}

impl<S: BlobStore> Aside<S> {
    /// Wraps a store whose calls never wait for another task.
    pub(super) fn new(store: S) -> Self {
        Self { store: Arc::new(store), reads: Arc::default(), changes: Arc::default() }
    }

    /// Makes a call, here or aside.
    async fn call<T: Send + 'static>(
        &self,
        pace: &Arc<Pace>,
        call: impl FnOnce(&S) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (store, pace) = (Arc::clone(&self.store), Arc::clone(pace));
        let runtime = tokio::runtime::Handle::try_current();
        let Some(runtime) = runtime.ok().filter(|_| pace.is_long()) else {
            return pace.note(|| call(&store));
        };
        let called = runtime.spawn_blocking(move || pace.note(|| call(&store))).await;
        called.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => {
                let ended = Error::new(ErrorKind::Offline).at(self.store.location());
                Err(ended.detail("nothing more is begun: this process ends").because(error))
            }
        })
    }
}

/// How long calls take, on average of the last few.
#[derive(Debug, Default)]
struct Pace(AtomicU64);

impl Pace {
    fn is_long(&self) -> bool {
        self.0.load(Ordering::Relaxed) > LONG_NS
    }

    fn note<T>(&self, call: impl FnOnce() -> T) -> T {
        let start = now();
        let told = call();
        let took = start.elapsed().as_nanos().min(u128::from(u32::MAX)) as u64;
        let before = self.0.load(Ordering::Relaxed);
        self.0.store((7 * before + took) / 8, Ordering::Relaxed);
        told
    }
}

#[expect(clippy::disallowed_methods, reason = "where to wait is no simulated time")]
fn now() -> Instant {
    Instant::now()
}

/// What a call that never waits for another task comes to.
fn inline<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(told) => told,
        Poll::Pending => Err(Error::new(ErrorKind::Unsupported).detail("a call does wait")),
    }
}

#[async_trait]
impl<S: BlobStore> BlobStore for Aside<S> {
    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    fn space(&self) -> Option<u64> {
        self.store.space()
    }

    fn location(&self) -> String {
        self.store.location()
    }

    async fn put(&self, name: &ObjectName, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        let name = *name;
        self.call(&self.changes, move |store| inline(store.put(&name, body, mode))).await
    }

    async fn put_file(&self, name: &ObjectName, path: &Path, mode: PutMode) -> Result<PutOutcome> {
        let (name, path) = (*name, path.to_owned());
        self.call(&self.changes, move |store| inline(store.put_file(&name, &path, mode))).await
    }

    async fn get(&self, name: &ObjectName, range: Option<Range<u64>>) -> Result<Bytes> {
        let name = *name;
        self.call(&self.reads, move |store| inline(store.get(&name, range))).await
    }

    async fn size(&self, name: &ObjectName) -> Result<Option<u64>> {
        let name = *name;
        self.call(&self.reads, move |store| inline(store.size(&name))).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let prefix = prefix.to_owned();
        self.call(&self.reads, move |store| inline(store.list(&prefix))).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<()> {
        let name = *name;
        self.call(&self.changes, move |store| inline(store.delete(&name))).await
    }
}

#[cfg(test)]
mod tests {
    use super::{Aside, BlobStore};
    use crate::store::suite::{self, body, name};
    use crate::store::{
        Capabilities, FileStore, MemoryStore, ObjectInfo, ObjectName, PutMode, PutOutcome, Result,
    };
    use async_trait::async_trait;
    use bytes::Bytes;
    use std::ops::Range;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread::{self, ThreadId};
    use std::time::Duration;

    suite::conformance!(|| {
        let dir = tempfile::tempdir().unwrap();
        (Arc::new(Aside::new(FileStore::create(dir.path()).unwrap())), dir)
    });

    /// A store that takes its time, and notes who waits for it.
    #[derive(Debug, Default)]
    struct Slow {
        store: MemoryStore,
        takes_ms: Arc<AtomicU64>,
        asked_by: Arc<parking_lot::Mutex<Option<ThreadId>>>,
    }

    impl Slow {
        #[expect(clippy::disallowed_methods, reason = "it is to block")]
        fn wait(&self) {
            thread::sleep(Duration::from_millis(self.takes_ms.load(Ordering::Relaxed)));
            *self.asked_by.lock() = Some(thread::current().id());
        }
    }

    #[async_trait]
    impl BlobStore for Slow {
        fn capabilities(&self) -> Capabilities {
            self.store.capabilities()
        }
        fn location(&self) -> String {
            self.store.location()
        }
        async fn put(&self, name: &ObjectName, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
            self.wait();
            self.store.put(name, body, mode).await
        }
        async fn put_file(&self, _: &ObjectName, _: &Path, _: PutMode) -> Result<PutOutcome> {
            unreachable!()
        }
        async fn get(&self, name: &ObjectName, range: Option<Range<u64>>) -> Result<Bytes> {
            self.wait();
            self.store.get(name, range).await
        }
        async fn size(&self, _: &ObjectName) -> Result<Option<u64>> {
            unreachable!()
        }
        async fn list(&self, _: &str) -> Result<Vec<ObjectInfo>> {
            unreachable!()
        }
        async fn delete(&self, _: &ObjectName) -> Result<()> {
            unreachable!()
        }
    }

    #[test]
    fn what_takes_long_is_waited_for_elsewhere_and_what_does_not_is_done_at_once() {
        let slow = Slow::default();
        let (takes_ms, asked_by) = (Arc::clone(&slow.takes_ms), Arc::clone(&slow.asked_by));
        let store = Aside::new(slow);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let is_here = || *asked_by.lock() == Some(thread::current().id());
        let object = name("x");
        runtime.block_on(async {
            store.put(&object, body("x", 10), PutMode::CreateIfAbsent).await.unwrap();
            store.get(&object, None).await.unwrap();
            assert!(is_here(), "nobody is woken for what is quick");
            takes_ms.store(100, Ordering::Relaxed);
            // It has to be found out first.
            store.get(&object, None).await.unwrap();
            assert_eq!(store.get(&object, None).await.unwrap(), body("x", 10));
            assert!(!is_here());
            takes_ms.store(0, Ordering::Relaxed);
            store.put(&object, body("y", 10), PutMode::Overwrite).await.unwrap();
            assert!(is_here(), "changes have a pace of their own");
            for _ in 0..100 {
                store.get(&object, None).await.unwrap();
            }
            assert!(is_here(), "it is quick again");
        });
    }
}

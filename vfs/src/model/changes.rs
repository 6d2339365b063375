//! The feed of changes made elsewhere.
//!
//! The model is alone in the world, so only [`super::ModelFs::announce`] puts
//! anything in. A feed ends when its file system is dropped.

use crate::{Change, Changes};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};

#[derive(Debug, Default)]
struct Queue {
    changes: VecDeque<Change>,
    waker: Option<Waker>,
    closed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All feeds of one file system.
#[derive(Debug, Default)]
pub(super) struct Feeds {
    queues: Mutex<Vec<Weak<Mutex<Queue>>>>,
}

impl Feeds {
    pub(super) fn subscribe(&self) -> ModelChanges {
        let queue = Arc::new(Mutex::new(Queue::default()));
        let mut queues = lock(&self.queues);
        queues.retain(|queue| queue.strong_count() > 0);
        queues.push(Arc::downgrade(&queue));
        ModelChanges { queue }
    }

    pub(super) fn announce(&self, change: &Change) {
        self.tell(|queue| queue.changes.push_back(change.clone()));
    }

    fn tell(&self, what: impl Fn(&mut Queue)) {
        for queue in lock(&self.queues).iter().filter_map(Weak::upgrade) {
            let mut queue = lock(&queue);
            what(&mut queue);
            let waker = queue.waker.take();
            drop(queue);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl Drop for Feeds {
    fn drop(&mut self) {
        self.tell(|queue| queue.closed = true);
    }
}

/// A feed of changes of a [`super::ModelFs`].
#[derive(Debug)]
pub struct ModelChanges {
    queue: Arc<Mutex<Queue>>,
}

impl Changes for ModelChanges {
    async fn next(&mut self) -> Option<Change> {
        poll_fn(|cx| {
            let mut queue = lock(&self.queue);
            match queue.changes.pop_front() {
                Some(change) => Poll::Ready(Some(change)),
                None if queue.closed => Poll::Ready(None),
                None => {
                    queue.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

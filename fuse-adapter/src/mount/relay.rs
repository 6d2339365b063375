//! Tells the kernel what changed elsewhere.
//!
//! An announcement may wait in the kernel until a request on the same inode has been
//! answered. So it is never sent from a thread that answers requests, nor from a
//! worker of the runtime, but from the runtime's pool for blocking calls, one at a
//! time and in order.

use crate::device::Device;
use std::io;
use std::sync::Arc;
use vfs::{Change, Changes};

/// Passes on every change until the file system shuts down.
pub(crate) async fn relay<C: Changes>(mut changes: C, kernel: Arc<Device>) {
    while let Some(change) = changes.next().await {
        let kernel = Arc::clone(&kernel);
        let announced = tokio::task::spawn_blocking(move || {
            if let Err(error) = announce(&kernel, &change) {
                log::debug!("the kernel took no notice of {change:?}: {error}");
            }
        });
        if announced.await.is_err() {
            return;
        }
    }
}

fn announce(kernel: &Device, change: &Change) -> io::Result<()> {
    match change {
        // A negative offset spares the data.
        Change::Attr(ino) => kernel.forget_inode(ino.get(), -1, 0),
        Change::Data { ino, offset, len } => {
            let (offset, len) = range(*offset, *len);
            kernel.forget_inode(ino.get(), offset, len)
        }
        Change::Entry { dir, name } => kernel.forget_name(dir.get(), name),
    }
}

/// A byte range for the kernel, to which 0 bytes mean "to the end".
fn range(offset: u64, len: u64) -> (i64, i64) {
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    match i64::try_from(len) {
        Ok(len) if offset.checked_add(len).is_some() => (offset, len),
        _ => (offset, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_reach_the_end_where_they_cannot_be_said() {
        assert_eq!(range(5, 7), (5, 7));
        assert_eq!(range(5, u64::MAX), (5, 0));
        assert_eq!(range(5, i64::MAX as u64), (5, 0));
        assert_eq!(range(u64::MAX, 1), (i64::MAX, 0));
    }
}

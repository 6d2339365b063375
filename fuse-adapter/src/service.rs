//! The kernel's requests: take the arguments apart, ask [`Core`], answer.
//!
//! What a request holds is copied once, because the answer may come from another
//! thread. Requests that are not here are refused with `ENOSYS`: either the kernel never
//! sends them (`access`, locks, `bmap`, see the crate's documentation) or it should not
//! send them again.

mod data;
mod inodes;
mod list;
mod names;

use crate::agree::{self, Offer};
use crate::core::{Caller, Core, Known, Opened};
use crate::device::Reply;
use crate::dispatch::{Op, run};
use crate::session::Request;
use crate::wire::{Arguments, Body, Malformed, Opcode};
use bytes::Bytes;
use std::future::Future;
use std::io;
use std::sync::Arc;
use tokio::runtime::Handle;
use vfs::Vfs;

/// A [`Core`] as the kernel wants it.
pub(crate) struct Service<V: Vfs> {
    core: Arc<Core<V>>,
    runtime: Handle,
}

/// What every request comes with.
#[derive(Debug)]
struct Asking {
    opcode: Opcode,
    ino: u64,
    who: Caller,
    reply: Reply,
}

impl<V: Vfs> Service<V> {
    pub(crate) fn new(core: Core<V>, runtime: Handle) -> Self {
        Self { core: Arc::new(core), runtime }
    }

    /// Bytes of the largest write.
    pub(crate) fn write_max(&self) -> u32 {
        agree::write_max(self.core.limits())
    }

    /// Answers the first request; whether the session can begin.
    pub(crate) fn init(&self, arguments: Arguments<'_>, reply: Reply) -> io::Result<bool> {
        let cut_off =
            |_| io::Error::new(io::ErrorKind::InvalidData, "the kernel's offer is cut off");
        let offer = Offer::parse(arguments).map_err(cut_off)?;
        if offer.is_newer() {
            reply.body(&agree::counter_offer());
            return Ok(false);
        }
        if offer.is_too_old() {
            reply.refuse(libc::EPROTO);
            let text = format!("this kernel speaks FUSE {}, which is too old", offer.version());
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let (body, agreed) = offer.accept(self.core.options(), self.core.limits());
        self.core.agree(agreed);
        reply.body(&body);
        Ok(true)
    }

    /// Has a request answered, now or later.
    pub(crate) fn answer(&self, request: Request<'_>, reply: Reply) {
        let opcode = request.header.opcode;
        let who = Caller::of(&request.header);
        let asking = Asking { opcode, ino: request.header.ino, who, reply };
        let rest = request.arguments();
        let understood = match opcode {
            // Numbers of inodes are for ever, so there is nothing to count. Nobody waits.
            Opcode::Forget | Opcode::BatchForget => {
                asking.reply.unwanted();
                Ok(())
            }
            Opcode::Lookup | Opcode::Unlink | Opcode::RemoveDir => self.named(asking, rest),
            Opcode::Symlink | Opcode::MakeNode | Opcode::MakeDir => self.make(asking, rest),
            Opcode::Link | Opcode::Rename | Opcode::RenameWithFlags => self.rename(asking, rest),
            Opcode::Create | Opcode::Open | Opcode::OpenDir => self.open(asking, rest),
            Opcode::GetAttr => self.get_attr(asking, rest),
            Opcode::SetAttr => self.set_attr(asking, rest),
            Opcode::ReadLink | Opcode::StatVolume => self.inode(asking),
            Opcode::GetXattr | Opcode::ListXattr => self.get_xattr(asking, rest),
            Opcode::SetXattr | Opcode::RemoveXattr => self.set_xattr(asking, rest),
            Opcode::Write => self.write(asking, request),
            Opcode::Read => self.read(asking, rest),
            Opcode::ReadDir | Opcode::ReadDirPlus => self.list(asking, rest),
            Opcode::Release | Opcode::ReleaseDir => self.close(asking, rest),
            Opcode::Sync | Opcode::SyncDir => self.sync(asking, rest),
            Opcode::Allocate | Opcode::Seek => self.allocate(asking, rest),
            Opcode::Copy => self.copy(asking, rest),
            Opcode::Init | Opcode::Destroy => {
                asking.reply.done();
                Ok(())
            }
            Opcode::Ioctl => {
                asking.reply.refuse(libc::ENOTTY);
                Ok(())
            }
            // The kernel writes its pages at every close, and tells what comes of that,
            // without a request of its own for it.
            Opcode::Flush | Opcode::Other(_) => {
                asking.reply.refuse(libc::ENOSYS);
                Ok(())
            }
        };
        if understood.is_err() {
            // The reply was dropped, which answers with an error.
            log::error!("a {opcode:?} request of the kernel ends too early");
        }
    }

    /// Asks the core and answers: `accept` sends what it gave, an error is logged and
    /// refused.
    fn ask<T, F>(
        &self,
        Asking { opcode, ino, who, reply }: Asking,
        ask: impl FnOnce(Arc<Core<V>>, Caller) -> F,
        accept: impl FnOnce(Reply, T) + Send + 'static,
    ) -> Result<(), Malformed>
    where
        T: Send,
        F: Future<Output = vfs::Result<T>> + Send + 'static,
    {
        let op = Op { opcode, ino };
        let work = ask(Arc::clone(&self.core), who);
        run(&self.runtime, async move {
            match work.await {
                Ok(answer) => accept(reply, answer),
                Err(error) => reply.refuse(op.report(&error)),
            }
        });
        Ok(())
    }
}

/// A name or value that outlives its request.
fn owned(bytes: &[u8]) -> Box<[u8]> {
    bytes.into()
}

fn send_entry(reply: Reply, known: Known) {
    reply.body(&Body::with_capacity(128).entry(&known.attr, known.ttl));
}

fn send_attr(reply: Reply, known: Known) {
    reply.body(&Body::with_capacity(104).attr(&known.attr, known.ttl));
}

fn send_opened(reply: Reply, opened: Opened) {
    reply.body(&Body::with_capacity(16).opened(opened.number, opened.flags));
}

fn send_count(reply: Reply, count: u32) {
    reply.body(&Body::with_capacity(8).u32(count).u32(0));
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of what sends an answer")]
fn send_data(reply: Reply, data: Bytes) {
    reply.data(&data);
}

fn send_done(reply: Reply, (): ()) {
    reply.done();
}

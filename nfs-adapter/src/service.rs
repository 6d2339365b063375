//! One connection: reads calls, has them answered, until either side has enough.

use crate::buffers::Buffers;
use crate::core::{Ask, Core};
use crate::dispatch::{Answer, Reply, run};
use crate::export::{Export, nobody};
use crate::outbox::{ALL_BYTES_MAX, Outbox};
use crate::record::{Incoming, Record};
use crate::replay::{Begun, CallId, Replies, Sender};
use crate::rpc::{self, Call, Claim, Refusal, refuse};
use crate::xdr::Decoder;
use crate::{mount, nfs};
use listen::{Load, Peer, Probation, Serve, Stream};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::Future;
use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use vfs::Vfs;

/// How long a call may stop in the middle, and a reply may wait to be taken.
const STALLED: Duration = Duration::from_secs(60);
/// How long calls under way may go on when the client says no more.
const FINISHING: Duration = Duration::from_secs(5);

/// What all connections share.
pub(crate) struct Service<V> {
    core: Arc<Core<V>>,
    /// The connections from addresses, which have one each.
    live: Mutex<HashMap<SocketAddr, Weak<Outbox>>>,
    replies: Arc<Replies>,
    buffers: Arc<Buffers>,
    load: Arc<Load>,
    runtime: Handle,
}

/// What is the same for every call of a connection.
struct Connection<'a> {
    peer: &'a Peer,
    sender: Sender,
    outbox: Arc<Outbox>,
    /// Passed by a call that has a handle.
    probation: Arc<Probation>,
}

impl<V: Vfs> Serve for Service<V> {
    fn connection(&self, id: u64, peer: &Peer, stream: &Stream) {
        log::debug!("connection {id} from {peer}");
        match self.serve(peer, stream) {
            Ok(()) => log::debug!("connection {id} has ended"),
            Err(error) => log::info!("connection {id} from {peer} ended: {error}"),
        }
        // Replies on their way keep the socket, but it is over.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

impl<V: Vfs> Service<V> {
    pub(crate) fn new(fs: Arc<V>, export: Export, runtime: Handle) -> Self {
        let core = Arc::new(Core::new(fs, export));
        let (live, replies, buffers) = Default::default();
        let load = Arc::new(Load::new(ALL_BYTES_MAX));
        Self { core, live, replies, buffers, load, runtime }
    }

    pub(crate) fn core(&self) -> &Arc<Core<V>> {
        &self.core
    }

    fn serve(&self, peer: &Peer, stream: &Stream) -> io::Result<()> {
        // This is also how often a stranger is looked at.
        let patience = STALLED.min(self.core.export.strangers_wait_max);
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(STALLED))?;
        self.exchange(peer, stream.as_fd().try_clone_to_owned()?, stream)
    }

    /// Answers on `socket` what is read from `stream`.
    pub(crate) fn exchange(
        &self,
        peer: &Peer,
        socket: OwnedFd,
        stream: impl Read,
    ) -> io::Result<()> {
        let outbox = Outbox::sharing(socket, Arc::clone(&self.load));
        let sender = match *peer {
            Peer::Tcp { addr, .. } => Sender::Address(addr),
            Peer::Unix { uid, pid, .. } => Sender::Process { uid, pid },
        };
        self.supersede(sender, &outbox);
        let probation = Arc::new(Probation::begin(self.core.export.strangers_wait_max));
        let mut incoming = Incoming::new(stream, Arc::clone(&self.buffers));
        incoming.watch(Arc::clone(&probation));
        let connection = Connection { peer, sender, outbox, probation };
        let ended = self.answer_all(&connection, &mut incoming);
        connection.outbox.flush();
        connection.outbox.finish(FINISHING);
        self.forget(sender, &connection.outbox);
        ended
    }

    /// Ends the connection that came from the same address and port before: its client
    /// has given it up, and calls that are still in it may be older than what comes now.
    fn supersede(&self, sender: Sender, outbox: &Arc<Outbox>) {
        let Sender::Address(addr) = sender else { return };
        let before = self.live.lock().insert(addr, Arc::downgrade(outbox));
        if let Some(before) = before.and_then(|before| before.upgrade()) {
            log::debug!("{addr} has come again; its connection before is closed");
            before.close();
        }
    }

    fn forget(&self, sender: Sender, outbox: &Arc<Outbox>) {
        let Sender::Address(addr) = sender else { return };
        let mut live = self.live.lock();
        if live.get(&addr).is_some_and(|known| known.ptr_eq(&Arc::downgrade(outbox))) {
            live.remove(&addr);
        }
    }

    fn answer_all(
        &self,
        connection: &Connection<'_>,
        incoming: &mut Incoming<impl Read>,
    ) -> io::Result<()> {
        loop {
            // Replies to calls that came together go out together.
            if !incoming.has_record() {
                connection.outbox.flush();
            }
            if !connection.outbox.has_room() {
                connection.outbox.flush();
                if !connection.outbox.wait_for_room() {
                    return Ok(());
                }
            }
            let Some(record) = incoming.next()? else { return Ok(()) };
            self.answer(connection, record)?;
        }
    }

    /// Has a call answered, now or later; it fails for what is no call.
    fn answer(&self, connection: &Connection<'_>, record: Record<'_>) -> io::Result<()> {
        let mut header = Decoder::new(record.bytes());
        let no_call = |_| io::Error::new(io::ErrorKind::InvalidData, "what was sent is no call");
        let xid = rpc::call_number(&mut header).map_err(no_call)?;
        let call = rpc::call(&mut header);
        let arguments_at = record.bytes().len() - header.rest().len();
        let begun = call.and_then(|call| self.begin(connection, (xid, call), record, arguments_at));
        if let Err(refusal) = begun {
            log::debug!("call {xid:#x} from {}: {refusal:?}", connection.peer);
            let permit = Some(connection.outbox.begin(0));
            connection.outbox.queue(Answer::from(refuse(xid, refusal)).into_packet(permit));
        }
        Ok(())
    }

    fn begin(
        &self,
        connection: &Connection<'_>,
        (xid, call): (u32, Call),
        record: Record<'_>,
        arguments_at: usize,
    ) -> Result<(), Refusal> {
        let cred = if call.procedure == rpc::NULL && matches!(call.claim, Claim::Nobody) {
            // Whether there is a server: clients ask that in nobody's name.
            nobody()
        } else {
            self.core.export.cred(connection.peer, call.claim)?
        };
        let mut ask = Ask { xid, cred, op: None };
        let outbox = Arc::clone(&connection.outbox);
        let permit = outbox.begin(record.bytes().len());
        let (running, is_for_others, later) = (None, false, None);
        let mut reply = Reply { xid, outbox, permit, running, is_for_others, later };
        let done = match (call.program, call.version) {
            (nfs::PROGRAM, nfs::VERSION) => {
                let procedure = nfs::Procedure::new(call.procedure).ok_or(Refusal::NoProcedure)?;
                let arguments = record.bytes().get(arguments_at..).unwrap_or_default();
                let probation = &connection.probation;
                if !probation.is_passed() && self.core.begins_with_handle(arguments) {
                    probation.pass();
                }
                // Without a handle nothing is done, so nothing has to be remembered.
                if procedure.is_done_once() && self.core.begins_with_handle(arguments) {
                    let what = (call.procedure, ask.cred.uid, arguments);
                    let id = CallId::new(connection.sender, xid, what);
                    match self.replies.begin(id, &connection.outbox) {
                        Begun::New(running) => reply.running = Some(running),
                        Begun::Done(head) => {
                            reply.repeat(head);
                            return Ok(());
                        }
                        Begun::Running => return Ok(()),
                    }
                    ask.op = Some(id.op());
                }
                reply.is_for_others = procedure == nfs::Procedure::Read
                    && record.is_followed()
                    && self.core.reads.is_long();
                self.nfs(procedure, ask, record, arguments_at, reply)
            }
            (mount::PROGRAM, mount::VERSION) => {
                let procedure =
                    mount::Procedure::new(call.procedure).ok_or(Refusal::NoProcedure)?;
                let arguments = record.bytes().get(arguments_at..).unwrap_or_default();
                self.mount(procedure, ask, &mut Decoder::new(arguments), reply)
            }
            (nfs::PROGRAM, _) => return Err(Refusal::ProgramVersion(nfs::VERSION)),
            (mount::PROGRAM, _) => return Err(Refusal::ProgramVersion(mount::VERSION)),
            _ => return Err(Refusal::NoProgram),
        };
        done.map_err(|_| Refusal::Garbage)
    }

    /// Runs a call whose arguments have been understood.
    pub(crate) fn spawn(&self, reply: Reply, work: impl Future<Output = Answer> + Send + 'static) {
        run(&self.runtime, reply, work);
    }
}

#[cfg(test)]
mod tests {
    use super::Service;
    use crate::export::Export;
    use crate::fuzz::Target;
    use crate::xdr::Encoder;
    use listen::Peer;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use tokio::runtime::Builder;
    use vfs::Ino;
    use vfs::model::{ManualClock, ModelFs};
    use zeroize::Zeroizing;

    /// A call to make the directory d.
    fn mkdir(handle: &[u8]) -> Vec<u8> {
        let mut arguments = Encoder::default();
        arguments.opaque(handle);
        arguments.opaque(b"d");
        for _ in 0..6 {
            arguments.u32(0);
        }
        Target::<ModelFs>::call(100_003, 9, &arguments.into_vec())
    }

    #[test]
    fn replies_are_kept_for_those_who_have_a_handle() {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        let export = Export::new([1; 16], Zeroizing::new([2; 32]));
        let fs = Arc::new(ModelFs::new(ManualClock::new(5).clock()));
        let service = Service::new(fs, export, runtime.handle().clone());
        let send = |call: &[u8]| {
            let (ours, _theirs) = UnixStream::pair().unwrap();
            let peer = Peer::Unix { uid: 0, gid: 0, pid: None };
            service.exchange(&peer, OwnedFd::from(ours), call).unwrap();
        };
        let ours = service.core().handles.handle(Ino::ROOT);
        let mut forged = ours;
        forged[30] ^= 1;
        for no_handle in [&forged[..], &ours[..40], &b""[..]] {
            send(&mkdir(no_handle));
        }
        assert_eq!(service.replies.count(), 0);
        send(&mkdir(&ours));
        assert_eq!(service.replies.count(), 1);
    }
}

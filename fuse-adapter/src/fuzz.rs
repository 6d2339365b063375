//! The kernel's side without a kernel, for tests and fuzz targets: a socket stands for
//! the device, and whoever calls says what the kernel says.

use crate::core::Core;
use crate::device::Device;
use crate::mount;
use crate::options::Options;
use crate::service::Service;
use crate::session::Session;
use crate::wire::{Body, MAJOR, MINOR, Opcode};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{recv, send, socketpair};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Handle;
use vfs::Vfs;

/// Longest answer that is seen here, bytes; a longer one is lost.
const ANSWER_LEN_MAX: usize = 128 << 10;

/// The kernel's end of a session.
pub struct Kernel<V: Vfs> {
    session: Session<V>,
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl<V: Vfs> std::fmt::Debug for Kernel<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl<V: Vfs> Kernel<V> {
    /// Begins with `first`, and says what every kernel does if that is not enough.
    ///
    /// # Errors
    /// The session's, if it does not begin.
    pub fn start(fs: Arc<V>, runtime: Handle, options: Options, first: &[u8]) -> io::Result<Self> {
        let kind = SocketType::SEQPACKET;
        let (device, socket) = socketpair(AddressFamily::UNIX, kind, SocketFlags::NONBLOCK, None)?;
        for request in [first, usual_offer().as_bytes()] {
            send(&socket, request, SendFlags::empty())?;
        }
        let service = Service::new(Core::new(fs, options), runtime);
        let session = Session::start(Device::new(device)?, service)?;
        let mut kernel = Self { session, socket, buffer: vec![0; ANSWER_LEN_MAX] };
        kernel.session.serve_now()?;
        while kernel.answer()?.is_some() {}
        Ok(kernel)
    }

    /// Sends a request and has it served.
    pub fn ask(&mut self, request: &[u8]) -> io::Result<()> {
        send(&self.socket, request, SendFlags::empty())?;
        self.session.serve_now()
    }

    /// The next answer, if there is one.
    pub fn answer(&mut self) -> io::Result<Option<&[u8]>> {
        match recv(&self.socket, &mut self.buffer[..], RecvFlags::empty()) {
            Ok((_, len)) => Ok(Some(&self.buffer[..len])),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// The first request of a kernel that offers nothing.
fn usual_offer() -> Body {
    let header = Body::default().u32(56).u32(Opcode::Init.number()).u64(1).zeros(24);
    header.u32(MAJOR).u32(MINOR).zeros(8)
}

/// The topmost mount at `path` in a table in the kernel's form: its number and its type.
#[must_use]
pub fn find_mount(table: &[u8], path: &Path) -> Option<(u64, String)> {
    mount::parse_table(table)
        .into_iter()
        .rfind(|row| row.path == path)
        .map(|row| (row.id, row.fs_type))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vfs::model::{ManualClock, ModelFs};

    /// Sends a well-formed request; gives the error number and what follows the header.
    fn ask(
        kernel: &mut Kernel<ModelFs>,
        opcode: Opcode,
        ino: u64,
        arguments: &Body,
    ) -> (i32, Vec<u8>) {
        let len = 40 + arguments.len() as u32;
        let header = Body::default().u32(len).u32(opcode.number()).u64(7).u64(ino);
        let request = header.u32(0).u32(0).u32(1).u32(0).bytes(arguments.as_bytes());
        kernel.ask(request.as_bytes()).unwrap();
        let answer = kernel.answer().unwrap().unwrap();
        let error = i32::from_ne_bytes(answer[4..8].try_into().unwrap());
        (error, answer[16..].to_vec())
    }

    #[test]
    fn a_read_longer_than_a_kernel_asks_for_is_refused() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let fs = Arc::new(ModelFs::new(ManualClock::new(1).clock()));
        let options = Options::new("/");
        let handle = runtime.handle().clone();
        let mut kernel = Kernel::start(fs, handle, options, usual_offer().as_bytes()).unwrap();
        let flags = libc::O_RDWR.cast_unsigned();
        let create = Body::default().u32(flags).u32(0o644).u32(0).u32(0).bytes(b"file\0");
        let (error, created) = ask(&mut kernel, Opcode::Create, 1, &create);
        assert_eq!(error, 0);
        let ino = u64::from_ne_bytes(created[..8].try_into().unwrap());
        let file = u64::from_ne_bytes(created[128..136].try_into().unwrap());
        let size = Body::default().u32(crate::wire::set::SIZE).u32(0).u64(0).u64(1 << 40).zeros(64);
        assert_eq!(ask(&mut kernel, Opcode::SetAttr, ino, &size).0, 0);
        let read = |len| Body::default().u64(file).u64(0).u32(len).u32(0).u64(0).u32(0).u32(0);
        let (error, data) = ask(&mut kernel, Opcode::Read, ino, &read(65_536));
        assert_eq!((error, data.len()), (0, 65_536));
        assert_eq!(ask(&mut kernel, Opcode::Read, ino, &read(u32::MAX)).0, -libc::EINVAL);
    }
}

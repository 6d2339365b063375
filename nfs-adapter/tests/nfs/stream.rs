//! Bytes to a server and back, as `nfs3_client` wants them.

use crate::wire::LONG;
use nfs3_client::io::{AsyncRead, AsyncWrite};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// They are waited for: tests have nothing else to do.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Program(Program),
}

/// A program that passes on what it is given.
pub(crate) struct Program {
    /// Closed, and so the program's end, before it is waited for.
    input: Option<ChildStdin>,
    output: ChildStdout,
    child: Child,
}

impl Stream {
    pub(crate) fn tcp(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        Self::Tcp(stream)
    }

    pub(crate) fn program(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        Self::Program(Program { input, output, child })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.input.take());
        // It may have failed, which is what the test is about to say.
        let _ = self.child.wait();
    }
}

impl AsyncRead for Stream {
    async fn async_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = match self {
            Self::Tcp(stream) => stream.read(buf)?,
            Self::Program(program) => program.output.read(buf)?,
        };
        // Whoever reads would try again.
        if len == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(len) }
    }
}

impl AsyncWrite for Stream {
    async fn async_write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buf),
            Self::Program(Program { input: Some(input), .. }) => {
                input.write_all(buf)?;
                input.flush()?;
                Ok(buf.len())
            }
            Self::Program(Program { input: None, .. }) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

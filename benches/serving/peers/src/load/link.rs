//! A connection on which several requests are under way.

use std::io::{self, BufReader, IoSlice, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Data up to this length goes out together with other requests.
const LITTLE: usize = 16 << 10;
/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A protocol on a connection.
pub(crate) trait Wire {
    /// The next answer: which slot it is for, and what follows its header.
    fn receive<'a>(&mut self, record: &'a mut Vec<u8>) -> io::Result<(usize, &'a [u8])>;
}

/// The connection. Requests gather until an answer has to be waited for.
pub(crate) struct Link {
    incoming: BufReader<TcpStream>,
    outgoing: TcpStream,
    pub(crate) out: Vec<u8>,
}

impl Link {
    pub(crate) fn connect(address: &str) -> io::Result<Self> {
        let outgoing = TcpStream::connect(address)?;
        outgoing.set_nodelay(true)?;
        outgoing.set_read_timeout(Some(PATIENCE))?;
        outgoing.set_write_timeout(Some(PATIENCE))?;
        let incoming = BufReader::with_capacity(64 << 10, outgoing.try_clone()?);
        Ok(Self { incoming, outgoing, out: Vec::new() })
    }

    /// Sends the data that belongs behind the request just put together.
    pub(crate) fn data(&mut self, data: &[u8]) -> io::Result<()> {
        if data.len() <= LITTLE {
            self.out.extend_from_slice(data);
            return Ok(());
        }
        let mut slices = &mut [IoSlice::new(&self.out), IoSlice::new(data)][..];
        while !slices.is_empty() {
            let sent = self.outgoing.write_vectored(slices)?;
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut slices, sent);
        }
        self.out.clear();
        Ok(())
    }

    /// The next bytes that come.
    pub(crate) fn read(&mut self, place: &mut [u8]) -> io::Result<()> {
        if self.incoming.buffer().is_empty() && !self.out.is_empty() {
            self.outgoing.write_all(&self.out)?;
            self.out.clear();
        }
        self.incoming.read_exact(place)
    }
}

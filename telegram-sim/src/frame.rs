//! Frames: the `full` transport, which both directions share.

use grammers_crypto::DequeBuffer;
use grammers_mtproto::transport::{Error, Full, Transport as _};
use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Longest frame; Telegram takes about half of it.
const FRAME_LEN_MAX: usize = 2 << 20;

/// Takes frames off a connection.
pub(crate) struct Frames {
    half: OwnedReadHalf,
    transport: Full,
    buffer: Vec<u8>,
    len: usize,
}

impl Frames {
    pub(crate) fn new(half: OwnedReadHalf) -> Self {
        Self { half, transport: Full::new(), buffer: vec![0; FRAME_LEN_MAX], len: 0 }
    }

    /// The next frame's payload; `None` when the client has closed.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            match self.transport.unpack(&mut self.buffer[..self.len]) {
                Ok(found) => {
                    let payload = self.buffer[found.data_range].to_vec();
                    self.buffer.copy_within(found.next_offset..self.len, 0);
                    self.len -= found.next_offset;
                    return Ok(Some(payload));
                }
                Err(Error::MissingBytes) if self.len < FRAME_LEN_MAX => {}
                Err(error) => return Err(io::Error::other(error.to_string())),
            }
            let count = self.half.read(&mut self.buffer[self.len..]).await?;
            if count == 0 {
                return Ok(None);
            }
            self.len += count;
        }
    }
}

/// Puts frames onto a connection.
pub(crate) struct FrameWriter {
    half: OwnedWriteHalf,
    transport: Full,
}

impl FrameWriter {
    pub(crate) fn new(half: OwnedWriteHalf) -> Self {
        Self { half, transport: Full::new() }
    }

    pub(crate) async fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        let mut frame = DequeBuffer::with_capacity(payload.len() + 4, 8);
        frame.extend(payload.iter().copied());
        self.transport.pack(&mut frame);
        self.half.write_all(&frame[..]).await
    }

    /// Refuses the connection: 404 for an unknown key, 429 for too many connections.
    pub(crate) async fn refuse(&mut self, status: i32) -> io::Result<()> {
        self.half.write_all(&(-status).to_le_bytes()).await?;
        self.half.flush().await
    }
}

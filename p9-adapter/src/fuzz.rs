//! A session without a server around it, for feeding it anything.

use crate::export::Export;
use crate::places::Total;
use crate::receive::Receiver;
use crate::session::Session;
use crate::wire::{MSIZE_FIRST, Message, kind};
use bytes::Bytes;
use listen::{Peer, Stream};
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use vfs::Vfs;

/// Answers the messages in `input`, one behind the other, up to the first that is no
/// message or has to wait for something, and gives all answers.
///
/// # Panics
///
/// If an answer is not one a client could read, or is longer than was agreed on.
#[must_use]
pub fn fuzz<V: Vfs>(fs: Arc<V>, export: Export, input: &[u8]) -> Vec<u8> {
    let mut rest = input;
    answer_all(fs, export, |max| {
        let (len, ..) = Message::header(rest)?;
        let (bytes, behind) = rest.split_at_checked(len as usize)?;
        rest = behind;
        Message::of(Bytes::copy_from_slice(bytes)).filter(|_| len <= max)
    })
}

/// The same through a socket, into which `input` is written in pieces of `step` bytes.
///
/// # Panics
///
/// As [`fuzz`], and if the system has neither sockets nor threads to give.
#[must_use]
pub fn fuzz_stream<V: Vfs>(fs: Arc<V>, export: Export, input: &[u8], step: usize) -> Vec<u8> {
    let (mut theirs, ours) = UnixStream::pair().expect("there are sockets");
    let stream = Stream::Unix(ours);
    std::thread::scope(|scope| {
        let send = move || input.chunks(step.max(1)).try_for_each(|part| theirs.write_all(part));
        let sender = std::thread::Builder::new().spawn_scoped(scope, send);
        let sender = sender.expect("there are threads");
        let mut receiver = Receiver::new(&stream);
        let answers = answer_all(fs, export, |max| receiver.next(max).ok().flatten());
        // Whoever has had enough reads on, since the other side would not stop writing.
        let read = io::copy(&mut &stream, &mut io::sink());
        assert!(read.is_ok() && sender.join().is_ok_and(|sent| sent.is_ok()), "a socket failed");
        answers
    })
}

/// Answers one message after the other, as long as there are any; `next` is told how long
/// one may be.
fn answer_all<V: Vfs>(
    fs: Arc<V>,
    export: Export,
    mut next: impl FnMut(u32) -> Option<Message>,
) -> Vec<u8> {
    let peer = Peer::Unix { uid: 0, gid: 0, pid: None };
    let total = Total::new(&export.bounds);
    let session = Session::new(fs, Arc::new(export), peer, &total);
    let mut answers = Vec::new();
    loop {
        let max = session.msize().unwrap_or(MSIZE_FIRST);
        let Some(message) = next(max) else { return answers };
        let (asked, tag) = (message.kind, message.tag);
        let mut work = Box::pin(async {
            match asked {
                kind::VERSION => session.negotiate(message).await,
                _ => session.answer(message).await,
            }
        });
        let mut nobody = Context::from_waker(Waker::noop());
        // One that lets others go first is ready the second time.
        let polled = (0..2).find_map(|_| match work.as_mut().poll(&mut nobody) {
            Poll::Ready(reply) => Some(reply),
            Poll::Pending => None,
        });
        let Some(mut reply) = polled else { return answers };
        reply.address(tag);
        let (fields, data) = reply.parts();
        let begins = answers.len();
        answers.extend_from_slice(fields);
        data.iter().for_each(|slice| answers.extend_from_slice(slice));
        let answer = &answers[begins..];
        let header = Message::header(answer);
        assert!(
            header.is_some_and(|(len, kind, to)| {
                let fits = len as usize == answer.len() && len <= max.max(MSIZE_FIRST);
                fits && to == tag && (kind == 7 || kind == asked.wrapping_add(1))
            }),
            "an answer that is none"
        );
    }
}

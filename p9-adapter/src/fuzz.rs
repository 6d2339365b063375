//! A session without sockets, for feeding it anything.

use crate::export::Export;
use crate::places::Total;
use crate::session::Session;
use crate::wire::{MSIZE_FIRST, Message, kind};
use bytes::Bytes;
use listen::Peer;
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
    let peer = Peer::Unix { uid: 0, gid: 0, pid: None };
    let total = Total::new(&export.bounds);
    let session = Session::new(fs, Arc::new(export), peer, &total);
    let (mut rest, mut answers) = (input, Vec::new());
    while let Some((len, asked, tag)) = Message::header(rest) {
        let max = session.msize().unwrap_or(MSIZE_FIRST);
        let Some((bytes, behind)) = rest.split_at_checked(len as usize) else { break };
        rest = behind;
        let whole = Message::of(Bytes::copy_from_slice(bytes));
        let Some(message) = whole.filter(|_| len <= max) else { break };
        let mut work = Box::pin(async {
            match asked {
                kind::VERSION => session.negotiate(message).await,
                _ => session.answer(message).await,
            }
        });
        let mut nobody = Context::from_waker(Waker::noop());
        let Poll::Ready(mut reply) = work.as_mut().poll(&mut nobody) else { break };
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
    answers
}

//! One connection: opens what comes, answers what belongs to the protocol itself, and
//! hands requests on. Faults happen here, since most are about connections.

use crate::clock::{pause, random, random_i64, wall, wall_seconds};
use crate::faults::Action;
use crate::frame::{FrameWriter, Frames};
use crate::rpc;
use crate::server::Shared;
use crate::wire::{
    AuthKey, ENVELOPE_LEN, GZIP_PACKED, MSG_CONTAINER, MessageNumbers, RPC_RESULT, constructor_of,
    unpack,
};
use grammers_tl_types::{
    self as tl, Cursor, Deserializable as _, Identifiable as _, Serializable as _,
};
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Salts told in advance: clients ask for more as long as there are few.
const SALTS: i32 = 64;
/// How long each is valid.
const SALT_SECONDS: i32 = 1800;

/// What goes to a client.
pub(crate) enum Out {
    /// A message.
    Message {
        body: Vec<u8>,
        /// Whether the client has to acknowledge it.
        has_content: bool,
        is_answer: bool,
    },
    /// The end of the connection.
    Close,
}

/// Serves one connection until either side ends it.
pub(crate) async fn serve(shared: Arc<Shared>, dc: i32, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    let (mut frames, mut writer) = (Frames::new(read), FrameWriter::new(write));
    let Some(first) = frames.next().await? else { return Ok(()) };
    let Some(key_id) = first.first_chunk::<8>().copied() else {
        return Err(io::Error::other("shorter than a key's id"));
    };
    if key_id == [0; 8] {
        return refuse_handshake(&mut writer, &first).await;
    }
    let (key, status) = {
        let mut world = shared.world.lock();
        (world.key(dc, key_id), world.take_refusal())
    };
    if let Some(status) = status {
        return writer.refuse(status).await;
    }
    let Some(key) = key else { return writer.refuse(404).await };
    let (outgoing, queue) = unbounded_channel();
    shared.connections.lock().push(outgoing.clone());
    let session = Arc::new(AtomicI64::new(0));
    let writing = write_all(shared.clone(), key.clone(), session.clone(), queue, writer);
    let mut writing = tokio::spawn(writing);
    let mut connection = Connection { shared, dc, key, session, outgoing, seen: HashSet::new() };
    let mut payload = first;
    let ended = loop {
        if let Err(error) = connection.take(payload) {
            break Err(error);
        }
        payload = tokio::select! {
            next = frames.next() => match next {
                Ok(Some(next)) => next,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            },
            _ = &mut writing => return Ok(()),
        };
    };
    drop(connection.outgoing.send(Out::Close));
    ended
}

/// Sends what is queued, until told to close.
async fn write_all(
    shared: Arc<Shared>,
    key: AuthKey,
    session: Arc<AtomicI64>,
    mut queue: UnboundedReceiver<Out>,
    mut writer: FrameWriter,
) {
    let (mut numbers, mut count) = (MessageNumbers::default(), 0_i32);
    while let Some(Out::Message { body, has_content, is_answer }) = queue.recv().await {
        let salt = shared.world.lock().salt();
        let mut plain = Vec::with_capacity(body.len() + 64);
        salt.serialize(&mut plain);
        session.load(Ordering::SeqCst).serialize(&mut plain);
        numbers.next(is_answer).serialize(&mut plain);
        (2 * count + i32::from(has_content)).serialize(&mut plain);
        count += i32::from(has_content);
        (body.len() as i32).serialize(&mut plain);
        plain.extend_from_slice(&body);
        if writer.send(&key.seal(plain)).await.is_err() {
            return;
        }
    }
}

/// Answers the first step of a key exchange with a key that no client knows, so that it
/// ends there.
async fn refuse_handshake(writer: &mut FrameWriter, first: &[u8]) -> io::Result<()> {
    let nonce = first.get(ENVELOPE_LEN..ENVELOPE_LEN + 16).and_then(|n| n.try_into().ok());
    let nonce = nonce.ok_or_else(|| io::Error::other("no nonce"))?;
    let answer = tl::enums::ResPq::Pq(tl::types::ResPq {
        nonce,
        server_nonce: random(),
        pq: 0x17ed_4894_1a08_f981_u64.to_be_bytes().to_vec(),
        server_public_key_fingerprints: vec![0x1234],
    });
    let body = answer.to_bytes();
    let mut plain = Vec::with_capacity(body.len() + 20);
    0_i64.serialize(&mut plain);
    ((wall().as_secs() as i64) << 32 | 1).serialize(&mut plain);
    (body.len() as i32).serialize(&mut plain);
    plain.extend(body);
    writer.send(&plain).await
}

struct Connection {
    shared: Arc<Shared>,
    dc: i32,
    key: AuthKey,
    session: Arc<AtomicI64>,
    outgoing: UnboundedSender<Out>,
    /// Messages that were taken, so that none is taken twice.
    seen: HashSet<i64>,
}

/// What stands before a message.
struct Head {
    salt: i64,
    session: i64,
    number: i64,
    sequence: i32,
    len: usize,
}

impl Head {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, tl::deserialize::Error> {
        let salt = i64::deserialize(cursor)?;
        let session = i64::deserialize(cursor)?;
        let number = i64::deserialize(cursor)?;
        let sequence = i32::deserialize(cursor)?;
        let len = usize::try_from(i32::deserialize(cursor)?).unwrap_or(usize::MAX);
        Ok(Self { salt, session, number, sequence, len })
    }
}

impl Connection {
    fn send(&self, body: Vec<u8>, has_content: bool, is_answer: bool) {
        // The writer may have gone; the reader ends then too.
        drop(self.outgoing.send(Out::Message { body, has_content, is_answer }));
    }

    /// Takes one frame's payload.
    fn take(&mut self, mut payload: Vec<u8>) -> io::Result<()> {
        if payload.first_chunk::<8>() != Some(&self.key.id()) {
            return Err(io::Error::other("another key than before"));
        }
        let plain = self.key.open(&mut payload)?;
        let mut cursor = Cursor::from_slice(plain);
        let head = Head::read(&mut cursor).map_err(io::Error::other)?;
        let rest = &plain[cursor.pos()..];
        let body = rest.get(..head.len).ok_or_else(|| io::Error::other("bad inner length"))?;
        if !(12..=1024).contains(&(rest.len() - body.len())) {
            return Err(io::Error::other("bad padding"));
        }
        let is_new = self.session.swap(head.session, Ordering::SeqCst) != head.session;
        let salt = self.shared.world.lock().salt();
        if head.salt != salt {
            let told = tl::types::BadServerSalt {
                bad_msg_id: head.number,
                bad_msg_seqno: head.sequence,
                error_code: 48,
                new_server_salt: salt,
            };
            let told = tl::enums::BadMsgNotification::BadServerSalt(told);
            self.send(told.to_bytes(), false, true);
            return Ok(());
        }
        if is_new {
            let told = tl::types::NewSessionCreated {
                first_msg_id: head.number,
                unique_id: random_i64(),
                server_salt: salt,
            };
            self.send(tl::enums::NewSession::Created(told).to_bytes(), true, false);
        }
        for (number, body) in messages_in(head.number, body)? {
            if self.seen.insert(number) {
                self.message(number, body)?;
            }
        }
        Ok(())
    }

    fn message(&self, number: i64, mut body: Vec<u8>) -> io::Result<()> {
        if constructor_of(&body) == Some(GZIP_PACKED) {
            let packed = Vec::<u8>::from_bytes(&body[4..]).map_err(io::Error::other)?;
            body = unpack(&packed)?;
        }
        match constructor_of(&body) {
            None => return Err(io::Error::other("an empty message")),
            Some(tl::types::MsgsAck::CONSTRUCTOR_ID) => {}
            Some(
                tl::functions::Ping::CONSTRUCTOR_ID
                | tl::functions::PingDelayDisconnect::CONSTRUCTOR_ID,
            ) => {
                let ping_id = i64::from_bytes(&body[4..]).map_err(io::Error::other)?;
                let pong = tl::enums::Pong::Pong(tl::types::Pong { msg_id: number, ping_id });
                self.send(pong.to_bytes(), false, true);
            }
            Some(tl::functions::GetFutureSalts::CONSTRUCTOR_ID) => {
                self.send(self.future_salts(number), false, true);
            }
            Some(_) => self.request(number, body),
        }
        Ok(())
    }

    /// The salt that is valid now, for a long time to come.
    fn future_salts(&self, number: i64) -> Vec<u8> {
        let (now, salt) = (wall_seconds(), self.shared.world.lock().salt());
        let salts = (0..SALTS).map(|n| tl::types::FutureSalt {
            valid_since: now + n * SALT_SECONDS,
            valid_until: now + (n + 2) * SALT_SECONDS,
            salt,
        });
        let salts = tl::RawVec(salts.collect());
        tl::enums::FutureSalts::Salts(tl::types::FutureSalts { req_msg_id: number, now, salts })
            .to_bytes()
    }

    fn request(&self, number: i64, body: Vec<u8>) {
        let (shared, outgoing) = (self.shared.clone(), self.outgoing.clone());
        let caller = rpc::Caller { dc: self.dc, key: self.key.id() };
        tokio::spawn(async move {
            if let Some(out) = answer(&shared, caller, number, &body).await {
                drop(outgoing.send(out));
            }
        });
    }
}

/// Does what a request asks, or what its fault says; `None` is no answer ever.
async fn answer(shared: &Shared, caller: rpc::Caller, number: i64, body: &[u8]) -> Option<Out> {
    let (action, latency, request) = {
        let mut world = shared.world.lock();
        match rpc::strip(body) {
            Ok(request) => {
                (world.strike(tl::name_for_id(request.id)), world.limits.latency, Ok(request))
            }
            Err(error) => (None, Duration::ZERO, Err(error)),
        }
    };
    if !latency.is_zero() {
        pause(latency).await;
    }
    let result = match &action {
        Some(Action::Fail(error)) => Err(error.clone()),
        Some(Action::Drop) => return Some(Out::Close),
        Some(Action::Hang) => return None,
        _ => request.and_then(|request| rpc::answer(&mut shared.world.lock(), caller, &request)),
    };
    match action {
        Some(Action::LoseAnswer) => return Some(Out::Close),
        Some(Action::Delay(by)) => pause(by).await,
        _ => {}
    }
    let result = result.unwrap_or_else(|error| {
        let error = tl::types::RpcError { error_code: error.code, error_message: error.name };
        tl::enums::RpcError::Error(error).to_bytes()
    });
    let mut body = Vec::with_capacity(result.len() + 12);
    RPC_RESULT.serialize(&mut body);
    number.serialize(&mut body);
    body.extend_from_slice(&result);
    Some(Out::Message { body, has_content: true, is_answer: true })
}

/// The messages of a container, or the one that is none.
fn messages_in(number: i64, body: &[u8]) -> io::Result<Vec<(i64, Vec<u8>)>> {
    if constructor_of(body) != Some(MSG_CONTAINER) {
        return Ok(vec![(number, body.to_vec())]);
    }
    let mut cursor = Cursor::from_slice(&body[4..]);
    let mut read = || -> Result<Vec<(i64, Vec<u8>)>, tl::deserialize::Error> {
        let count = i32::deserialize(&mut cursor)?;
        let mut messages = Vec::new();
        for _ in 0..count {
            let number = i64::deserialize(&mut cursor)?;
            i32::deserialize(&mut cursor)?;
            let len = usize::try_from(i32::deserialize(&mut cursor)?).unwrap_or(0);
            let mut message = vec![0; len.min(body.len())];
            cursor.read_exact(&mut message)?;
            messages.push((number, message));
        }
        Ok(messages)
    };
    read().map_err(io::Error::other)
}

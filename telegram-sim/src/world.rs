//! What the data centre remembers, and how a test looks into it.

use crate::RpcError;
use crate::clock::{Clock, random_i64, wall_seconds};
use crate::faults::{Action, Chaos, Fault, Faults};
use crate::limits::{Cost, Limits};
use crate::srp::Account;
use crate::wire::AuthKey;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::SocketAddrV4;
use std::time::Duration;

/// Where messages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The messages a user keeps for himself.
    Saved(i64),
    /// A channel, by its id.
    Channel(i64),
}

/// A message as the server keeps it.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    /// Its number in its place.
    pub id: i32,
    /// Text, or the caption of the document.
    pub text: String,
    /// The document, if there is one.
    pub document: Option<i64>,
    pub(crate) date: i32,
    visible_at: Duration,
}

pub(crate) struct User {
    pub(crate) access_hash: i64,
    pub(crate) phone: String,
    pub(crate) code: String,
    pub(crate) bot_token: Option<String>,
    pub(crate) password: Option<Account>,
}

pub(crate) struct Document {
    pub(crate) access_hash: i64,
    pub(crate) dc: i32,
    pub(crate) body: Bytes,
    pub(crate) name: String,
    pub(crate) mime: String,
    pub(crate) date: i32,
}

#[derive(Default)]
pub(crate) struct Messages {
    last_id: i32,
    pub(crate) by_id: BTreeMap<i32, StoredMessage>,
    pub(crate) pts: i32,
}

pub(crate) struct Channel {
    pub(crate) access_hash: i64,
    pub(crate) title: String,
    pub(crate) date: i32,
    pub(crate) creator: i64,
    pub(crate) members: HashSet<i64>,
}

/// Parts of a file that is being uploaded.
pub(crate) struct Upload {
    pub(crate) parts: BTreeMap<i32, (Bytes, Duration)>,
    pub(crate) total: Option<i32>,
}

/// Everything that the data centres of one [`Sim`](crate::Sim) remember.
pub struct World {
    /// What is allowed from now on.
    pub limits: Limits,
    addresses: Vec<(i32, SocketAddrV4)>,
    pub(crate) clock: Clock,
    salt: i64,
    keys: HashMap<(i32, [u8; 8]), AuthKey>,
    authorized: HashMap<[u8; 8], i64>,
    pub(crate) awaiting_password: HashMap<[u8; 8], i64>,
    pub(crate) exported: HashMap<i64, (i64, i32)>,
    pub(crate) users: BTreeMap<i64, User>,
    pub(crate) uploads: HashMap<(i64, i64), Upload>,
    pub(crate) documents: HashMap<i64, Document>,
    messages: HashMap<Place, Messages>,
    pub(crate) channels: BTreeMap<i64, Channel>,
    sent: VecDeque<(i64, i64)>,
    last_id: i64,
    /// References of an earlier epoch are of no use.
    reference_epoch: u32,
    faults: Faults,
    chaos: Option<Chaos>,
    refusal: Option<i32>,
    banned: HashMap<i64, RpcError>,
    upload_dc: Option<i32>,
    calls: BTreeMap<String, usize>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl World {
    pub(crate) fn new(addresses: Vec<(i32, SocketAddrV4)>, clock: Clock) -> Self {
        Self {
            limits: Limits::default(),
            addresses,
            clock,
            salt: random_i64() | 1,
            keys: HashMap::new(),
            authorized: HashMap::new(),
            awaiting_password: HashMap::new(),
            exported: HashMap::new(),
            users: BTreeMap::new(),
            uploads: HashMap::new(),
            documents: HashMap::new(),
            messages: HashMap::new(),
            channels: BTreeMap::new(),
            sent: VecDeque::new(),
            last_id: 1000,
            reference_epoch: 1,
            faults: Faults::default(),
            chaos: None,
            refusal: None,
            banned: HashMap::new(),
            upload_dc: None,
            calls: BTreeMap::new(),
        }
    }

    // -- what a test does --------------------------------------------------------------

    /// A user who logs in with this code, and this second password if there is one.
    pub fn add_user(&mut self, phone: &str, code: &str, password: Option<&str>) -> i64 {
        self.last_id += 1;
        let user = User {
            access_hash: random_i64(),
            phone: phone.to_owned(),
            code: code.to_owned(),
            bot_token: None,
            password: password.map(Account::new),
        };
        self.users.insert(self.last_id, user);
        self.last_id
    }

    /// A bot that logs in with this token.
    pub fn add_bot(&mut self, token: &str) -> i64 {
        let id = self.add_user(token, "", None);
        if let Some(user) = self.users.get_mut(&id) {
            user.bot_token = Some(token.to_owned());
        }
        id
    }

    /// A private channel of `creator`.
    pub fn add_channel(&mut self, creator: i64, title: &str) -> i64 {
        self.last_id += 1;
        let channel = Channel {
            access_hash: random_i64(),
            title: title.to_owned(),
            date: wall_seconds(),
            creator,
            members: HashSet::from([creator]),
        };
        self.channels.insert(self.last_id, channel);
        self.last_id
    }

    /// The channels with this title.
    #[must_use]
    pub fn channels_titled(&self, title: &str) -> Vec<i64> {
        self.channels.iter().filter(|(_, c)| c.title == title).map(|(id, _)| *id).collect()
    }

    /// Removes a channel with everything in it.
    pub fn delete_channel(&mut self, id: i64) {
        self.channels.remove(&id);
        self.messages.remove(&Place::Channel(id));
    }

    /// A document that no message refers to yet; many messages may share one.
    pub fn add_document(&mut self, name: &str, body: impl Into<Bytes>) -> i64 {
        let document = Document {
            access_hash: random_i64(),
            dc: self.upload_dc(),
            body: body.into(),
            name: name.to_owned(),
            mime: "application/octet-stream".to_owned(),
            date: wall_seconds(),
        };
        let id = random_i64();
        self.documents.insert(id, document);
        id
    }

    /// Adds a message, whatever the limits say, and answers its number.
    pub fn post(&mut self, place: Place, text: &str, document: Option<i64>) -> i32 {
        let (now, delay) = (self.clock.now(), self.limits.visibility_delay);
        let messages = self.messages_mut(place);
        messages.last_id += 1;
        messages.pts += 1;
        let id = messages.last_id;
        let visible_at = if id % 2 == 0 { now + delay } else { now };
        let text = text.to_owned();
        let message = StoredMessage { id, text, document, date: wall_seconds(), visible_at };
        messages.by_id.insert(id, message);
        id
    }

    /// The same, so many seconds ago if `seconds` is negative.
    pub fn post_at(
        &mut self,
        place: Place,
        text: &str,
        document: Option<i64>,
        seconds: i32,
    ) -> i32 {
        let id = self.post(place, text, document);
        if let Some(message) = self.messages_mut(place).by_id.get_mut(&id) {
            message.date += seconds;
        }
        id
    }

    /// Changes a message's text behind every client's back.
    pub fn edit(&mut self, place: Place, id: i32, text: &str) {
        if let Some(message) = self.messages_mut(place).by_id.get_mut(&id) {
            message.text = text.to_owned();
        }
    }

    /// Makes a user a member of a channel.
    pub fn join(&mut self, channel: i64, user: i64) {
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.members.insert(user);
        }
    }

    /// Removes messages behind every client's back.
    pub fn delete_messages(&mut self, place: Place, ids: &[i32]) -> usize {
        let messages = self.messages_mut(place);
        let count = ids.iter().filter(|id| messages.by_id.remove(id).is_some()).count();
        messages.pts += count as i32;
        count
    }

    /// The messages of a place, oldest first, also those that cannot be reached.
    #[must_use]
    pub fn messages(&self, place: Place) -> Vec<StoredMessage> {
        self.messages_of(place).map(|m| m.by_id.values().cloned().collect()).unwrap_or_default()
    }

    /// What a document holds.
    #[must_use]
    pub fn document(&self, id: i64) -> Option<Bytes> {
        self.documents.get(&id).map(|document| document.body.clone())
    }

    /// Changes what a document holds behind every client's back.
    pub fn replace_document(&mut self, id: i64, body: impl Into<Bytes>) {
        if let Some(document) = self.documents.get_mut(&id) {
            document.body = body.into();
        }
    }

    /// Adds a fault, after those that wait.
    pub fn fault(&mut self, fault: Fault) {
        self.faults.add(fault);
    }

    /// How many faults have not happened yet.
    #[must_use]
    pub fn faults_waiting(&self) -> usize {
        self.faults.waiting()
    }

    /// Faults at random from now on.
    pub fn set_chaos(&mut self, chaos: Option<Chaos>) {
        self.chaos = chaos;
    }

    /// Nothing goes wrong any more.
    pub fn heal(&mut self) {
        self.faults.clear();
        self.chaos = None;
        self.refusal = None;
        self.banned.clear();
    }

    /// Makes every file reference useless that was handed out.
    pub fn expire_references(&mut self) {
        self.reference_epoch += 1;
    }

    /// Forgets the parts of files that no message refers to.
    pub fn expire_parts(&mut self) {
        self.uploads.clear();
    }

    /// Changes the salt that clients have to use.
    pub fn change_salt(&mut self) {
        self.salt = random_i64() | 1;
    }

    /// Forgets every key.
    pub fn forget_keys(&mut self) {
        self.keys.clear();
    }

    /// Ends every login.
    pub fn log_everybody_out(&mut self) {
        self.authorized.clear();
    }

    /// Refuses everything of a user with this error, as `USER_DEACTIVATED_BAN`.
    pub fn ban(&mut self, user: i64, error: RpcError) {
        self.banned.insert(user, error);
    }

    /// The next connection is refused with this status, as 429.
    pub fn refuse_next_connection(&mut self, status: i32) {
        self.refusal = Some(status);
    }

    /// New documents are kept at this data centre.
    pub fn set_upload_dc(&mut self, dc: i32) {
        self.upload_dc = Some(dc);
    }

    /// How many requests of a method there were, failed ones included.
    #[must_use]
    pub fn calls(&self, method: &str) -> usize {
        self.calls.get(method).copied().unwrap_or_default()
    }

    // -- what the server does ----------------------------------------------------------

    pub(crate) fn addresses(&self) -> &[(i32, SocketAddrV4)] {
        &self.addresses
    }

    pub(crate) fn upload_dc(&self) -> i32 {
        self.upload_dc.or_else(|| self.addresses.first().map(|(id, _)| *id)).unwrap_or_default()
    }

    pub(crate) fn salt(&self) -> i64 {
        self.salt
    }

    pub(crate) fn add_key(&mut self, dc: i32, key: AuthKey) {
        self.keys.insert((dc, key.id()), key);
    }

    pub(crate) fn key(&self, dc: i32, id: [u8; 8]) -> Option<AuthKey> {
        self.keys.get(&(dc, id)).cloned()
    }

    pub(crate) fn authorize(&mut self, key: [u8; 8], user: i64) {
        self.authorized.insert(key, user);
    }

    pub(crate) fn log_out(&mut self, key: [u8; 8]) {
        self.authorized.remove(&key);
    }

    /// Who is logged in with this key; a banned user is told so.
    pub(crate) fn user_of(&self, key: [u8; 8]) -> Result<i64, RpcError> {
        let user = self.authorized.get(&key);
        let user = *user.ok_or_else(|| RpcError::new(401, "AUTH_KEY_UNREGISTERED"))?;
        self.banned.get(&user).map_or(Ok(user), |error| Err(error.clone()))
    }

    pub(crate) fn take_refusal(&mut self) -> Option<i32> {
        self.refusal.take()
    }

    /// Counts a request and says what happens to it.
    pub(crate) fn strike(&mut self, method: &str) -> Option<Action> {
        *self.calls.entry(method.to_owned()).or_default() += 1;
        let fault = self.faults.take(method);
        fault.or_else(|| self.chaos.as_mut()?.strike(method))
    }

    pub(crate) fn charge(&mut self, cost: Cost) -> Result<(), RpcError> {
        let now = self.clock.now();
        self.limits.take(cost, now)
    }

    pub(crate) fn messages_of(&self, place: Place) -> Option<&Messages> {
        self.messages.get(&place)
    }

    pub(crate) fn messages_mut(&mut self, place: Place) -> &mut Messages {
        self.messages.entry(place).or_default()
    }

    /// Whether clients can see a message already.
    pub(crate) fn is_visible(&self, message: &StoredMessage) -> bool {
        message.visible_at <= self.clock.now()
    }

    /// Remembers a send; `false` if it is a repetition.
    pub(crate) fn remember_send(&mut self, user: i64, random_id: i64) -> bool {
        if self.sent.contains(&(user, random_id)) {
            return false;
        }
        self.sent.push_back((user, random_id));
        while self.sent.len() > self.limits.repeats_known {
            self.sent.pop_front();
        }
        true
    }

    /// A send that came to nothing may be repeated.
    pub(crate) fn forget_send(&mut self, user: i64, random_id: i64) {
        self.sent.retain(|sent| *sent != (user, random_id));
    }

    /// A reference to a document that is valid for a while.
    pub(crate) fn reference(&self) -> Vec<u8> {
        let mut reference = self.reference_epoch.to_le_bytes().to_vec();
        reference.extend((self.clock.now().as_millis() as u64).to_le_bytes());
        reference
    }

    pub(crate) fn check_reference(&self, reference: &[u8]) -> Result<(), RpcError> {
        let expired = || RpcError::bad("FILE_REFERENCE_EXPIRED");
        if reference.is_empty() {
            return Err(RpcError::bad("FILE_REFERENCE_EMPTY"));
        }
        let (epoch, made) = reference.split_first_chunk::<4>().ok_or_else(expired)?;
        let made = made.first_chunk::<8>().ok_or_else(expired)?;
        let made = Duration::from_millis(u64::from_le_bytes(*made));
        let age = self.clock.now().saturating_sub(made);
        let is_old = self.limits.reference_age_max.is_some_and(|max| age > max);
        if u32::from_le_bytes(*epoch) != self.reference_epoch || is_old {
            return Err(expired());
        }
        Ok(())
    }
}

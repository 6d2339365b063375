//! The large objects of answers.
//!
//! They have dozens of fields, nearly all optional. Each is made by reading the shortest
//! encoding there is, with no flag set, and then setting what is wanted; so a field that
//! the next version of the schema adds changes nothing here.

use crate::clock::wall_seconds;
use crate::world::{Place, StoredMessage, World};
use grammers_tl_types::{Deserializable, Serializable as _, enums, types as t};

/// Reads an object from its shortest encoding.
fn minimal<T: Deserializable>(write: impl FnOnce(&mut Vec<u8>)) -> T {
    let mut bytes = Vec::new();
    write(&mut bytes);
    T::from_bytes(&bytes).expect("the shortest encoding of a type in the schema")
}

/// Two sets of flags, none of them set.
fn no_flags(bytes: &mut Vec<u8>) {
    0_u32.serialize(bytes);
    0_u32.serialize(bytes);
}

fn peer(place: Place) -> enums::Peer {
    match place {
        Place::Saved(user_id) => enums::Peer::User(t::PeerUser { user_id }),
        Place::Channel(channel_id) => enums::Peer::Channel(t::PeerChannel { channel_id }),
    }
}

pub(super) fn message(world: &World, place: Place, stored: &StoredMessage) -> enums::Message {
    let mut message: t::Message = minimal(|bytes| {
        no_flags(bytes);
        stored.id.serialize(bytes);
        peer(place).serialize(bytes);
        stored.date.serialize(bytes);
        stored.text.serialize(bytes);
    });
    message.out = true;
    match place {
        Place::Saved(_) => {
            message.from_id = Some(peer(place));
            message.saved_peer_id = Some(peer(place));
        }
        Place::Channel(_) => message.post = true,
    }
    message.media = stored.document.and_then(|id| media(world, id));
    enums::Message::Message(message)
}

fn media(world: &World, id: i64) -> Option<enums::MessageMedia> {
    let stored = world.documents.get(&id)?;
    let named = t::DocumentAttributeFilename { file_name: stored.name.clone() };
    let document = t::Document {
        id,
        access_hash: stored.access_hash,
        file_reference: world.reference(),
        date: stored.date,
        mime_type: stored.mime.clone(),
        size: stored.body.len() as i64,
        thumbs: None,
        video_thumbs: None,
        dc_id: stored.dc,
        attributes: vec![enums::DocumentAttribute::Filename(named)],
    };
    let mut media: t::MessageMediaDocument = minimal(|bytes| 0_u32.serialize(bytes));
    media.document = Some(enums::Document::Document(document));
    Some(enums::MessageMedia::Document(media))
}

pub(super) fn user(world: &World, id: i64, viewer: i64) -> Option<enums::User> {
    let stored = world.users.get(&id)?;
    let mut user: t::User = minimal(|bytes| {
        no_flags(bytes);
        id.serialize(bytes);
    });
    user.is_self = id == viewer;
    user.access_hash = Some(stored.access_hash);
    user.first_name = Some("Somebody".to_owned());
    user.bot = stored.bot_token.is_some();
    // They share a flag: one without the other cannot be written.
    user.bot_info_version = user.bot.then_some(1);
    user.phone = (!user.bot).then(|| stored.phone.clone());
    Some(enums::User::User(user))
}

fn chat(world: &World, id: i64, viewer: i64) -> Option<enums::Chat> {
    let stored = world.channels.get(&id)?;
    let mut channel: t::Channel = minimal(|bytes| {
        no_flags(bytes);
        id.serialize(bytes);
        stored.title.serialize(bytes);
        enums::ChatPhoto::Empty.serialize(bytes);
        stored.date.serialize(bytes);
    });
    channel.access_hash = Some(stored.access_hash);
    channel.broadcast = true;
    channel.creator = stored.creator == viewer;
    Some(enums::Chat::Channel(channel))
}

fn chats_of(world: &World, viewer: i64, place: Place) -> Vec<enums::Chat> {
    match place {
        Place::Saved(_) => Vec::new(),
        Place::Channel(id) => chat(world, id, viewer).into_iter().collect(),
    }
}

/// Messages as an answer; `total` is how many there are in all, where pages are asked for.
pub(super) fn messages(
    world: &World,
    viewer: i64,
    place: Place,
    messages: Vec<enums::Message>,
    total: Option<usize>,
) -> Vec<u8> {
    let users: Vec<_> = user(world, viewer, viewer).into_iter().collect();
    let chats = chats_of(world, viewer, place);
    let count = total.unwrap_or(messages.len()) as i32;
    let answer = match place {
        Place::Channel(_) => {
            enums::messages::Messages::ChannelMessages(t::messages::ChannelMessages {
                inexact: false,
                pts: world.messages_of(place).map_or(0, |messages| messages.pts),
                count,
                offset_id_offset: None,
                messages,
                topics: Vec::new(),
                chats,
                users,
            })
        }
        Place::Saved(_) if count as usize > messages.len() => {
            enums::messages::Messages::Slice(t::messages::MessagesSlice {
                inexact: false,
                count,
                next_rate: None,
                offset_id_offset: None,
                search_flood: None,
                messages,
                topics: Vec::new(),
                chats,
                users,
            })
        }
        Place::Saved(_) => enums::messages::Messages::Messages(t::messages::Messages {
            messages,
            topics: Vec::new(),
            chats,
            users,
        }),
    };
    answer.to_bytes()
}

pub(super) fn dialogs(world: &World, viewer: i64, channels: &[i64]) -> Vec<u8> {
    let dialog = |&id: &i64| {
        let place = Place::Channel(id);
        let last = world.messages_of(place).and_then(|messages| messages.by_id.keys().last());
        let mut dialog: t::Dialog = minimal(|bytes| {
            0_u32.serialize(bytes);
            peer(place).serialize(bytes);
            last.copied().unwrap_or_default().serialize(bytes);
            for _ in 0..5 {
                0_i32.serialize(bytes);
            }
            let settings: t::PeerNotifySettings = minimal(|bytes| 0_u32.serialize(bytes));
            enums::PeerNotifySettings::Settings(settings).serialize(bytes);
        });
        dialog.pts = world.messages_of(place).map(|messages| messages.pts);
        enums::Dialog::Dialog(dialog)
    };
    let answer = t::messages::Dialogs {
        dialogs: channels.iter().map(dialog).collect(),
        messages: Vec::new(),
        chats: channels.iter().filter_map(|id| chat(world, *id, viewer)).collect(),
        users: user(world, viewer, viewer).into_iter().collect(),
    };
    enums::messages::Dialogs::Dialogs(answer).to_bytes()
}

pub(super) fn updates(
    world: &World,
    viewer: i64,
    updates: Vec<enums::Update>,
    place: Place,
) -> Vec<u8> {
    let updates = t::Updates {
        updates,
        users: user(world, viewer, viewer).into_iter().collect(),
        chats: chats_of(world, viewer, place),
        date: wall_seconds(),
        seq: 0,
    };
    enums::Updates::Updates(updates).to_bytes()
}

pub(super) fn state() -> Vec<u8> {
    let (date, zero) = (wall_seconds(), 0);
    let state = t::updates::State { pts: 1, qts: zero, date, seq: zero, unread_count: zero };
    enums::updates::State::State(state).to_bytes()
}

pub(super) fn authorization(world: &World, id: i64) -> Vec<u8> {
    let Some(user) = user(world, id, id) else { return Vec::new() };
    let authorization = t::auth::Authorization {
        setup_password_required: false,
        otherwise_relogin_days: None,
        tmp_sessions: None,
        future_auth_token: None,
        user,
    };
    enums::auth::Authorization::Authorization(authorization).to_bytes()
}

/// Clients take the addresses in it for those of all data centres.
pub(super) fn config(world: &World, dc: i32) -> Vec<u8> {
    let option = |(id, address): &(i32, std::net::SocketAddrV4)| {
        enums::DcOption::Option(t::DcOption {
            ipv6: false,
            media_only: false,
            tcpo_only: false,
            cdn: false,
            r#static: true,
            this_port_only: false,
            id: *id,
            ip_address: address.ip().to_string(),
            port: address.port().into(),
            secret: None,
        })
    };
    let options: Vec<_> = world.addresses().iter().map(option).collect();
    let config: t::Config = minimal(|bytes| {
        0_u32.serialize(bytes);
        wall_seconds().serialize(bytes);
        (wall_seconds() + 3600).serialize(bytes);
        false.serialize(bytes);
        dc.serialize(bytes);
        options.serialize(bytes);
        String::new().serialize(bytes);
        for _ in 0..21 {
            0_i32.serialize(bytes);
        }
        String::from("https://t.me/").serialize(bytes);
        1024_i32.serialize(bytes);
        4096_i32.serialize(bytes);
        dc.serialize(bytes);
    });
    enums::Config::Config(config).to_bytes()
}

//! Messages: sent, listed by pages, fetched by number, deleted; and channels.

use super::{Answer, files, objects};
use crate::RpcError;
use crate::limits::Cost;
use crate::world::{Place, StoredMessage, World};
use grammers_tl_types::{Serializable as _, enums, functions as f, types as t};

/// Longest caption of a document, UTF-16 units.
const CAPTION_LEN_MAX: usize = 1024;
/// Longest text, UTF-16 units.
const TEXT_LEN_MAX: usize = 4096;
/// Most messages in a page of history.
const PAGE_LEN_MAX: usize = 100;
/// Most messages that are fetched or deleted by number at a time.
const NUMBERS_MAX: usize = 100;

fn place_of(world: &World, user: i64, peer: &enums::InputPeer) -> Result<Place, RpcError> {
    match peer {
        enums::InputPeer::PeerSelf => Ok(Place::Saved(user)),
        enums::InputPeer::User(peer) if peer.user_id == user => Ok(Place::Saved(user)),
        enums::InputPeer::Channel(peer) => {
            channel_of(world, user, peer.channel_id, peer.access_hash)
        }
        _ => Err(RpcError::bad("PEER_ID_INVALID")),
    }
}

fn channel_of(world: &World, user: i64, id: i64, access_hash: i64) -> Result<Place, RpcError> {
    let channel = world.channels.get(&id);
    match channel.filter(|channel| channel.access_hash == access_hash) {
        Some(channel) if channel.members.contains(&user) => Ok(Place::Channel(id)),
        Some(_) => Err(RpcError::bad("CHANNEL_PRIVATE")),
        None => Err(RpcError::bad("CHANNEL_INVALID")),
    }
}

fn input_channel(world: &World, user: i64, input: &enums::InputChannel) -> Result<Place, RpcError> {
    match input {
        enums::InputChannel::Channel(input) => {
            channel_of(world, user, input.channel_id, input.access_hash)
        }
        _ => Err(RpcError::bad("CHANNEL_INVALID")),
    }
}

pub(super) fn create_channel(
    world: &mut World,
    user: i64,
    request: &f::channels::CreateChannel,
) -> Answer {
    world.charge(Cost::Send)?;
    let id = world.add_channel(user, &request.title);
    Ok(objects::updates(world, user, Vec::new(), Place::Channel(id)))
}

/// Everything is in the first page.
pub(super) fn dialogs(world: &World, user: i64, request: &f::messages::GetDialogs) -> Answer {
    let ids = world.channels.iter().filter(|(_, channel)| channel.members.contains(&user));
    let ids = ids.map(|(id, _)| *id).filter(|_| request.offset_id == 0);
    Ok(objects::dialogs(world, user, &ids.collect::<Vec<_>>()))
}

pub(super) fn send_media(world: &mut World, user: i64, request: f::messages::SendMedia) -> Answer {
    let place = place_of(world, user, &request.peer)?;
    if request.message.encode_utf16().count() > CAPTION_LEN_MAX {
        return Err(RpcError::bad("MEDIA_CAPTION_TOO_LONG"));
    }
    world.charge(Cost::Send)?;
    if !world.remember_send(user, request.random_id) {
        return Err(RpcError::new(500, "RANDOM_ID_DUPLICATE"));
    }
    match files::make_document(world, user, request.media) {
        Ok(document) => {
            Ok(post(world, user, place, &request.message, Some(document), request.random_id))
        }
        Err(error) => {
            world.forget_send(user, request.random_id);
            Err(error)
        }
    }
}

pub(super) fn send_text(
    world: &mut World,
    user: i64,
    request: &f::messages::SendMessage,
) -> Answer {
    let place = place_of(world, user, &request.peer)?;
    if request.message.is_empty() {
        return Err(RpcError::bad("MESSAGE_EMPTY"));
    }
    if request.message.encode_utf16().count() > TEXT_LEN_MAX {
        return Err(RpcError::bad("MESSAGE_TOO_LONG"));
    }
    world.charge(Cost::Send)?;
    if !world.remember_send(user, request.random_id) {
        return Err(RpcError::new(500, "RANDOM_ID_DUPLICATE"));
    }
    Ok(post(world, user, place, &request.message, None, request.random_id))
}

fn post(
    world: &mut World,
    user: i64,
    place: Place,
    text: &str,
    document: Option<i64>,
    random_id: i64,
) -> Vec<u8> {
    let id = world.post(place, text, document);
    let pts = world.messages_mut(place).pts;
    let mut updates = vec![enums::Update::MessageId(t::UpdateMessageId { id, random_id })];
    let posted = world.messages_of(place).and_then(|messages| messages.by_id.get(&id));
    updates.extend(posted.map(|posted| {
        let message = objects::message(world, place, posted);
        match place {
            Place::Saved(_) => {
                enums::Update::NewMessage(t::UpdateNewMessage { message, pts, pts_count: 1 })
            }
            Place::Channel(_) => enums::Update::NewChannelMessage(t::UpdateNewChannelMessage {
                message,
                pts,
                pts_count: 1,
            }),
        }
    }));
    objects::updates(world, user, updates, place)
}

/// A page: newest first, from the first message below `offset_id`, moved by `add_offset`;
/// a negative one reaches newer messages.
pub(super) fn history(world: &World, user: i64, request: &f::messages::GetHistory) -> Answer {
    let place = place_of(world, user, &request.peer)?;
    let Some(messages) = world.messages_of(place) else {
        return Ok(objects::messages(world, user, place, Vec::new(), Some(0)));
    };
    let reachable = world.limits.messages_max.unwrap_or(usize::MAX);
    let unreachable = messages.by_id.len().saturating_sub(reachable);
    let first = messages.by_id.keys().nth(unreachable).copied().unwrap_or(i32::MAX);
    let is_shown = |message: &&StoredMessage| message.id >= first && world.is_visible(message);
    let limit = usize::try_from(request.limit).unwrap_or_default().min(PAGE_LEN_MAX);
    let offset = if request.offset_id == 0 { i32::MAX } else { request.offset_id };
    let newer = usize::try_from(-request.add_offset).unwrap_or_default();
    let older = usize::try_from(request.add_offset).unwrap_or_default();
    let above = messages.by_id.range(offset..).map(|(_, message)| message).filter(is_shown);
    let mut page: Vec<&StoredMessage> = above.take(newer).collect();
    let missing = newer - page.len();
    page.reverse();
    let below = messages.by_id.range(..offset).rev().map(|(_, message)| message).filter(is_shown);
    let room = limit.saturating_sub(page.len() + missing);
    page.extend(below.skip(older).take(room));
    page.truncate(limit);
    page.retain(|message| {
        message.id > request.min_id && (request.max_id == 0 || message.id < request.max_id)
    });
    let page = page.into_iter().map(|message| objects::message(world, place, message)).collect();
    Ok(objects::messages(world, user, place, page, Some(messages.by_id.len())))
}

pub(super) fn saved_by_id(world: &World, user: i64, request: &f::messages::GetMessages) -> Answer {
    by_id(world, user, Place::Saved(user), &request.id)
}

pub(super) fn in_channel_by_id(
    world: &World,
    user: i64,
    request: &f::channels::GetMessages,
) -> Answer {
    let place = input_channel(world, user, &request.channel)?;
    by_id(world, user, place, &request.id)
}

fn by_id(world: &World, user: i64, place: Place, ids: &[enums::InputMessage]) -> Answer {
    let found = ids.iter().take(NUMBERS_MAX).filter_map(|input| {
        let enums::InputMessage::Id(input) = input else { return None };
        let found = world.messages_of(place).and_then(|messages| messages.by_id.get(&input.id));
        Some(match found.filter(|message| world.is_visible(message)) {
            Some(message) => objects::message(world, place, message),
            None => enums::Message::Empty(t::MessageEmpty { id: input.id, peer_id: None }),
        })
    });
    Ok(objects::messages(world, user, place, found.collect(), None))
}

pub(super) fn delete_saved(
    world: &mut World,
    user: i64,
    request: &f::messages::DeleteMessages,
) -> Answer {
    Ok(delete(world, Place::Saved(user), &request.id))
}

pub(super) fn delete_in_channel(
    world: &mut World,
    user: i64,
    request: &f::channels::DeleteMessages,
) -> Answer {
    let place = input_channel(world, user, &request.channel)?;
    Ok(delete(world, place, &request.id))
}

fn delete(world: &mut World, place: Place, ids: &[i32]) -> Vec<u8> {
    let count = world.delete_messages(place, &ids[..ids.len().min(NUMBERS_MAX)]);
    let pts = world.messages_mut(place).pts;
    let affected = t::messages::AffectedMessages { pts, pts_count: count as i32 };
    enums::messages::AffectedMessages::Messages(affected).to_bytes()
}

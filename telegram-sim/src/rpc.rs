//! Requests: their wrappers, who may make them, and who answers them.

mod files;
mod login;
mod messages;
mod objects;

use crate::RpcError;
use crate::limits::Cost;
use crate::wire::constructor_of;
use crate::world::World;
use grammers_tl_types::{self as tl, Cursor, Deserializable, Identifiable, functions as f};
use tl::deserialize::Error as TlError;

/// The answer to a request.
type Answer = Result<Vec<u8>, RpcError>;

/// `invokeWithLayer`
const WITH_LAYER: u32 = 0xda9b_0d0d;
/// `invokeWithoutUpdates`
const WITHOUT_UPDATES: u32 = 0xbf94_59b7;
/// `initConnection`
const INIT_CONNECTION: u32 = 0xc1cd_5ea9;

/// Who makes a request: a key at a data centre.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) dc: i32,
    pub(crate) key: [u8; 8],
}

/// A request without its wrappers.
pub(crate) struct Request<'a> {
    /// Which method.
    pub(crate) id: u32,
    /// Its parameters.
    parameters: &'a [u8],
}

impl Request<'_> {
    fn parse<T: Deserializable>(&self) -> Result<T, RpcError> {
        T::from_bytes(self.parameters).map_err(|_| RpcError::bad("INPUT_REQUEST_INVALID"))
    }

    fn is<T: Identifiable>(&self) -> bool {
        self.id == T::CONSTRUCTOR_ID
    }
}

/// Takes the wrappers off.
pub(crate) fn strip(mut body: &[u8]) -> Result<Request<'_>, RpcError> {
    let invalid = || RpcError::bad("INPUT_REQUEST_INVALID");
    loop {
        let id = constructor_of(body).ok_or_else(invalid)?;
        let parameters = &body[4..];
        let skip = match id {
            WITH_LAYER => 4,
            WITHOUT_UPDATES => 0,
            INIT_CONNECTION => init_len(parameters).map_err(|_| invalid())?,
            _ => return Ok(Request { id, parameters }),
        };
        body = parameters.get(skip..).ok_or_else(invalid)?;
    }
}

/// Bytes of `initConnection` before the request in it.
fn init_len(parameters: &[u8]) -> Result<usize, TlError> {
    let mut cursor = Cursor::from_slice(parameters);
    let flags = u32::deserialize(&mut cursor)?;
    i32::deserialize(&mut cursor)?;
    for _ in 0..6 {
        String::deserialize(&mut cursor)?;
    }
    if flags & 1 != 0 {
        tl::enums::InputClientProxy::deserialize(&mut cursor)?;
    }
    if flags & 2 != 0 {
        tl::enums::Jsonvalue::deserialize(&mut cursor)?;
    }
    Ok(cursor.pos())
}

/// Does what a request asks.
pub(crate) fn answer(world: &mut World, caller: Caller, request: &Request<'_>) -> Answer {
    if request.is::<f::help::GetConfig>() {
        return Ok(objects::config(world, caller.dc));
    }
    if let Some(answer) = login::answer(world, caller, request) {
        return answer;
    }
    let user = world.user_of(caller.key)?;
    if world.users.get(&user).is_some_and(|user| user.bot_token.is_some())
        && (request.is::<f::messages::GetHistory>() || request.is::<f::messages::GetDialogs>())
    {
        return Err(RpcError::bad("BOT_METHOD_INVALID"));
    }
    match request.id {
        f::upload::SaveFilePart::CONSTRUCTOR_ID => files::save_part(world, user, request.parse()?),
        f::upload::SaveBigFilePart::CONSTRUCTOR_ID => {
            files::save_big_part(world, user, request.parse()?)
        }
        f::upload::GetFile::CONSTRUCTOR_ID => files::read(world, caller.dc, &request.parse()?),
        f::users::GetUsers::CONSTRUCTOR_ID => login::users(world, user, &request.parse()?),
        f::updates::GetState::CONSTRUCTOR_ID => Ok(objects::state()),
        f::channels::CreateChannel::CONSTRUCTOR_ID => {
            messages::create_channel(world, user, &request.parse()?)
        }
        f::messages::GetDialogs::CONSTRUCTOR_ID => {
            world.charge(Cost::Page)?;
            messages::dialogs(world, user, &request.parse()?)
        }
        f::messages::SendMedia::CONSTRUCTOR_ID => {
            messages::send_media(world, user, request.parse()?)
        }
        f::messages::SendMessage::CONSTRUCTOR_ID => {
            messages::send_text(world, user, &request.parse()?)
        }
        f::messages::GetHistory::CONSTRUCTOR_ID => {
            world.charge(Cost::Page)?;
            messages::history(world, user, &request.parse()?)
        }
        f::messages::GetMessages::CONSTRUCTOR_ID => {
            messages::saved_by_id(world, user, &request.parse()?)
        }
        f::channels::GetMessages::CONSTRUCTOR_ID => {
            messages::in_channel_by_id(world, user, &request.parse()?)
        }
        f::messages::DeleteMessages::CONSTRUCTOR_ID => {
            messages::delete_saved(world, user, &request.parse()?)
        }
        f::channels::DeleteMessages::CONSTRUCTOR_ID => {
            messages::delete_in_channel(world, user, &request.parse()?)
        }
        other => {
            log::warn!("no answer is known to {}", tl::name_for_id(other));
            Err(RpcError::bad("INPUT_METHOD_INVALID"))
        }
    }
}

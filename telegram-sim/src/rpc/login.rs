//! Who somebody is: codes, second passwords, bots, and logins carried to another data
//! centre.

use super::{Answer, Caller, Request, objects};
use crate::RpcError;
use crate::clock::{random, random_i64};
use crate::srp;
use crate::world::World;
use grammers_tl_types::{Identifiable as _, Serializable as _, enums, functions as f, types as t};

/// Answers what may be asked without being logged in, and what ends or moves a login.
pub(super) fn answer(world: &mut World, caller: Caller, request: &Request<'_>) -> Option<Answer> {
    let mut answer = || -> Result<Option<Vec<u8>>, RpcError> {
        Ok(Some(match request.id {
            f::auth::SendCode::CONSTRUCTOR_ID => send_code(world, &request.parse()?)?,
            f::auth::SignIn::CONSTRUCTOR_ID => sign_in(world, caller, &request.parse()?)?,
            f::auth::ImportBotAuthorization::CONSTRUCTOR_ID => {
                sign_in_bot(world, caller, &request.parse()?)?
            }
            f::account::GetPassword::CONSTRUCTOR_ID => password(world, caller)?,
            f::auth::CheckPassword::CONSTRUCTOR_ID => {
                check_password(world, caller, request.parse()?)?
            }
            f::auth::ExportAuthorization::CONSTRUCTOR_ID => {
                export(world, caller, &request.parse()?)?
            }
            f::auth::ImportAuthorization::CONSTRUCTOR_ID => {
                import(world, caller, &request.parse()?)?
            }
            f::auth::LogOut::CONSTRUCTOR_ID => {
                world.log_out(caller.key);
                enums::auth::LoggedOut::Out(t::auth::LoggedOut { future_auth_token: None })
                    .to_bytes()
            }
            _ => return Ok(None),
        }))
    };
    answer().transpose()
}

/// What a client has to show with the code.
fn code_hash(phone: &str) -> String {
    format!("hash of {phone}")
}

fn send_code(world: &World, request: &f::auth::SendCode) -> Answer {
    if !world.users.values().any(|user| user.phone == request.phone_number) {
        return Err(RpcError::bad("PHONE_NUMBER_INVALID"));
    }
    let sent = t::auth::SentCode {
        r#type: enums::auth::SentCodeType::App(t::auth::SentCodeTypeApp { length: 5 }),
        phone_code_hash: code_hash(&request.phone_number),
        next_type: None,
        timeout: None,
    };
    Ok(enums::auth::SentCode::Code(sent).to_bytes())
}

fn sign_in(world: &mut World, caller: Caller, request: &f::auth::SignIn) -> Answer {
    if request.phone_code_hash != code_hash(&request.phone_number) {
        return Err(RpcError::bad("PHONE_CODE_EXPIRED"));
    }
    let user = world.users.iter().find(|(_, user)| user.phone == request.phone_number);
    let Some((&id, user)) = user else { return Err(RpcError::bad("PHONE_NUMBER_UNOCCUPIED")) };
    if request.phone_code.as_ref() != Some(&user.code) {
        return Err(RpcError::bad("PHONE_CODE_INVALID"));
    }
    if user.password.is_some() {
        world.awaiting_password.insert(caller.key, id);
        return Err(RpcError::new(401, "SESSION_PASSWORD_NEEDED"));
    }
    world.authorize(caller.key, id);
    Ok(objects::authorization(world, id))
}

fn sign_in_bot(
    world: &mut World,
    caller: Caller,
    request: &f::auth::ImportBotAuthorization,
) -> Answer {
    let token = Some(&request.bot_auth_token);
    let bot = world.users.iter().find(|(_, user)| user.bot_token.as_ref() == token);
    let Some((&id, _)) = bot else { return Err(RpcError::bad("ACCESS_TOKEN_INVALID")) };
    world.authorize(caller.key, id);
    Ok(objects::authorization(world, id))
}

fn password(world: &World, caller: Caller) -> Answer {
    let id = match world.awaiting_password.get(&caller.key) {
        Some(id) => *id,
        None => world.user_of(caller.key)?,
    };
    let account = world.users.get(&id).and_then(|user| user.password.as_ref());
    let algorithm = |account: &srp::Account| {
        enums::PasswordKdfAlgo::Sha256Sha256Pbkdf2Hmacsha512iter100000Sha256ModPow(
            t::PasswordKdfAlgoSha256Sha256Pbkdf2Hmacsha512iter100000Sha256ModPow {
                salt1: account.salt1.to_vec(),
                salt2: account.salt2.to_vec(),
                g: srp::GENERATOR as i32,
                p: srp::padded(&srp::prime()).to_vec(),
            },
        )
    };
    let password = t::account::Password {
        has_recovery: false,
        has_secure_values: false,
        has_password: account.is_some(),
        current_algo: account.map(algorithm),
        srp_b: account.map(|account| account.challenge.to_vec()),
        srp_id: account.map(|account| account.id),
        hint: Some("a hint".to_owned()),
        email_unconfirmed_pattern: None,
        new_algo: enums::PasswordKdfAlgo::Unknown,
        new_secure_algo: enums::SecurePasswordKdfAlgo::Unknown,
        secure_random: random::<256>().to_vec(),
        pending_reset_date: None,
        login_email_pattern: None,
    };
    Ok(enums::account::Password::Password(password).to_bytes())
}

fn check_password(world: &mut World, caller: Caller, request: f::auth::CheckPassword) -> Answer {
    let wrong = || RpcError::bad("PASSWORD_HASH_INVALID");
    let Some(&id) = world.awaiting_password.get(&caller.key) else {
        return Err(RpcError::new(401, "AUTH_KEY_UNREGISTERED"));
    };
    let enums::InputCheckPasswordSrp::Srp(proof) = request.password else { return Err(wrong()) };
    let account = world.users.get(&id).and_then(|user| user.password.as_ref());
    if !account.is_some_and(|account| account.is_proved(proof.srp_id, &proof.a, &proof.m1)) {
        return Err(wrong());
    }
    world.awaiting_password.remove(&caller.key);
    world.authorize(caller.key, id);
    Ok(objects::authorization(world, id))
}

fn export(world: &mut World, caller: Caller, request: &f::auth::ExportAuthorization) -> Answer {
    let id = world.user_of(caller.key)?;
    let token = random_i64();
    world.exported.insert(token, (id, request.dc_id));
    let bytes = token.to_le_bytes().to_vec();
    let exported = t::auth::ExportedAuthorization { id, bytes };
    Ok(enums::auth::ExportedAuthorization::Authorization(exported).to_bytes())
}

fn import(world: &mut World, caller: Caller, request: &f::auth::ImportAuthorization) -> Answer {
    let token = request.bytes.first_chunk().map(|token| i64::from_le_bytes(*token));
    let exported = token.and_then(|token| world.exported.remove(&token));
    if exported != Some((request.id, caller.dc)) {
        return Err(RpcError::bad("AUTH_BYTES_INVALID"));
    }
    world.authorize(caller.key, request.id);
    Ok(objects::authorization(world, request.id))
}

pub(super) fn users(world: &World, viewer: i64, request: &f::users::GetUsers) -> Answer {
    let asked = request.id.iter().filter_map(|user| match user {
        enums::InputUser::UserSelf => Some(viewer),
        enums::InputUser::User(user) => Some(user.user_id),
        _ => None,
    });
    let users: Vec<_> = asked.filter_map(|id| objects::user(world, id, viewer)).collect();
    Ok(users.to_bytes())
}

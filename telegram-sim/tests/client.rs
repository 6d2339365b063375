//! The real client library against the fake data centre, over TCP.

#![expect(clippy::unwrap_used, reason = "tests")]

use grammers_client::SignInError;
use grammers_client::client::Client;
use grammers_mtsender::{ConnectionParams, InvocationError, NoRetries, SenderPool};
use grammers_session::SessionData;
use grammers_session::storages::MemorySession;
use grammers_session::types::DcOption;
use grammers_tl_types::{enums, functions as f, types as t};
use std::net::SocketAddrV6;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tgcryptfs_telegram_sim::{Action, Bucket, Chaos, Clock, Dc, Fault, Place, RpcError, Sim};
use tokio::runtime::Runtime;

const API_HASH: &str = "hash";
const PART_LEN: usize = 512 << 10;

struct World {
    runtime: Runtime,
    sim: Sim,
    user: i64,
}

impl World {
    fn new() -> Self {
        Self::with(Sim::start(&[2, 4]).unwrap())
    }

    fn with(sim: Sim) -> Self {
        let user = sim.world().add_user("+100", "12345", None);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        Self { runtime, sim, user }
    }

    /// A client that is logged in.
    fn client(&self) -> Client {
        self.connect(&self.sim.logged_in(self.user))
    }

    fn connect(&self, dcs: &[Dc]) -> Client {
        let mut data = SessionData { home_dc: dcs[0].id, ..SessionData::default() };
        data.dc_options.clear();
        for dc in dcs {
            let (ip, port) = (dc.address.ip(), dc.address.port());
            let option = DcOption {
                id: dc.id,
                ipv4: dc.address,
                ipv6: SocketAddrV6::new(ip.to_ipv6_mapped(), port, 0, 0),
                auth_key: Some(dc.auth_key),
            };
            data.dc_options.insert(dc.id, option);
        }
        let params = ConnectionParams { retry_policy: Box::new(NoRetries), ..Default::default() };
        let session = Arc::new(MemorySession::from(data));
        let pool = SenderPool::with_configuration(session, 1, params);
        self.runtime.spawn(pool.runner.run());
        Client::new(pool.handle)
    }

    fn ask<R: grammers_tl_types::RemoteCall>(
        &self,
        client: &Client,
        r: &R,
    ) -> Result<R::Return, InvocationError> {
        self.runtime.block_on(client.invoke(r))
    }

    fn refusal<R: grammers_tl_types::RemoteCall>(
        &self,
        client: &Client,
        r: &R,
    ) -> (i32, String, Option<u32>) {
        let mut asked = (0..20).map(|_| self.ask(client, r));
        // A connection that has just broken may take another request down with it.
        let is_lost = |told: &Result<_, _>| matches!(told, Err(InvocationError::Dropped(_)));
        match asked.find(|told| !is_lost(told)).expect("a connection") {
            Err(InvocationError::Rpc(error)) => (error.code, error.name, error.value),
            Err(error) => panic!("another error: {error}"),
            Ok(_) => panic!("it was done"),
        }
    }

    /// A channel, as requests name it.
    fn channel(&self, client: &Client) -> (i64, enums::InputPeer) {
        let created = self.ask(
            client,
            &f::channels::CreateChannel {
                broadcast: true,
                megagroup: false,
                for_import: false,
                forum: false,
                title: "vault".to_owned(),
                about: String::new(),
                geo_point: None,
                address: None,
                ttl_period: None,
            },
        );
        let enums::Updates::Updates(updates) = created.unwrap() else { panic!("no updates") };
        let enums::Chat::Channel(channel) = &updates.chats[0] else { panic!("no channel") };
        assert!(channel.creator && channel.broadcast);
        let access_hash = channel.access_hash.unwrap();
        let peer = t::InputPeerChannel { channel_id: channel.id, access_hash };
        (channel.id, enums::InputPeer::Channel(peer))
    }

    fn save(
        &self,
        client: &Client,
        file_id: i64,
        file_part: i32,
        total: i32,
    ) -> Result<bool, InvocationError> {
        let bytes = vec![file_part as u8; PART_LEN];
        let part =
            f::upload::SaveBigFilePart { file_id, file_part, file_total_parts: total, bytes };
        self.ask(client, &part)
    }

    fn history(
        &self,
        client: &Client,
        peer: &enums::InputPeer,
        offset_id: i32,
        add_offset: i32,
    ) -> Vec<i32> {
        let page = self.ask(
            client,
            &f::messages::GetHistory {
                peer: peer.clone(),
                offset_id,
                offset_date: 0,
                add_offset,
                limit: 100,
                max_id: 0,
                min_id: 0,
                hash: 0,
            },
        );
        match page.unwrap() {
            enums::messages::Messages::ChannelMessages(page) => {
                page.messages.iter().map(enums::Message::id).collect()
            }
            enums::messages::Messages::Messages(page) => {
                page.messages.iter().map(enums::Message::id).collect()
            }
            _ => panic!("another kind of page"),
        }
    }
}

fn media(id: i64, parts: i32) -> enums::InputMedia {
    t::InputMediaUploadedDocument {
        nosound_video: false,
        force_file: true,
        spoiler: false,
        file: t::InputFileBig { id, parts, name: "x".to_owned() }.into(),
        thumb: None,
        mime_type: "application/octet-stream".to_owned(),
        attributes: Vec::new(),
        stickers: None,
        video_cover: None,
        video_timestamp: None,
        ttl_seconds: None,
    }
    .into()
}

fn send(
    peer: &enums::InputPeer,
    media: enums::InputMedia,
    random_id: i64,
) -> f::messages::SendMedia {
    f::messages::SendMedia {
        silent: true,
        background: false,
        clear_draft: false,
        peer: peer.clone(),
        reply_to: None,
        media,
        message: "caption".to_owned(),
        random_id,
        reply_markup: None,
        entities: None,
        schedule_date: None,
        schedule_repeat_period: None,
        send_as: None,
        noforwards: false,
        update_stickersets_order: false,
        invert_media: false,
        quick_reply_shortcut: None,
        effect: None,
        allow_paid_floodskip: false,
        allow_paid_stars: None,
        suggested_post: None,
    }
}

/// The location of the document in the newest message.
fn location(
    world: &World,
    client: &Client,
    channel: i64,
    peer: &enums::InputPeer,
) -> t::InputDocumentFileLocation {
    let id = world.sim.world().messages(Place::Channel(channel)).last().unwrap().id;
    let enums::InputPeer::Channel(peer) = peer else { panic!("no channel") };
    let (channel_id, access_hash) = (peer.channel_id, peer.access_hash);
    let fetched = world.ask(
        client,
        &f::channels::GetMessages {
            channel: t::InputChannel { channel_id, access_hash }.into(),
            id: vec![t::InputMessageId { id }.into()],
        },
    );
    let enums::messages::Messages::ChannelMessages(fetched) = fetched.unwrap() else {
        panic!("not of a channel")
    };
    let enums::Message::Message(message) = &fetched.messages[0] else { panic!("no message") };
    let Some(enums::MessageMedia::Document(media)) = &message.media else { panic!("no media") };
    let Some(enums::Document::Document(document)) = &media.document else { panic!("nothing") };
    t::InputDocumentFileLocation {
        id: document.id,
        access_hash: document.access_hash,
        file_reference: document.file_reference.clone(),
        thumb_size: String::new(),
    }
}

fn get(
    location: &t::InputDocumentFileLocation,
    offset: i64,
    limit: i32,
    precise: bool,
) -> f::upload::GetFile {
    f::upload::GetFile {
        precise,
        cdn_supported: false,
        location: location.clone().into(),
        offset,
        limit,
    }
}

#[test]
fn users_log_in_by_code_and_second_password() {
    let world = World::new();
    world.sim.world().add_user("+200", "54321", Some("hunter2"));
    world.sim.world().add_bot("1:token");
    world.runtime.block_on(async {
        let client = world.connect(&world.sim.new_keys());
        assert!(!client.is_authorized().await.unwrap());
        assert!(client.request_login_code("+999", API_HASH).await.is_err());
        let token = client.request_login_code("+100", API_HASH).await.unwrap();
        let wrong = client.sign_in(&token, "00000").await;
        assert!(matches!(wrong, Err(SignInError::InvalidCode)));
        client.sign_in(&token, "12345").await.unwrap();
        assert!(client.is_authorized().await.unwrap());

        let client = world.connect(&world.sim.new_keys());
        let token = client.request_login_code("+200", API_HASH).await.unwrap();
        let Err(SignInError::PasswordRequired(token)) = client.sign_in(&token, "54321").await
        else {
            panic!("no password was asked for")
        };
        assert_eq!(token.hint(), Some("a hint"));
        let Err(SignInError::InvalidPassword(token)) = client.check_password(token, "wrong").await
        else {
            panic!("any password will do")
        };
        let user = client.check_password(token, "hunter2").await.unwrap();
        assert_eq!(user.phone(), Some("+200"));

        let client = world.connect(&world.sim.new_keys());
        assert!(client.bot_sign_in("1:other", API_HASH).await.is_err());
        assert!(client.bot_sign_in("1:token", API_HASH).await.unwrap().is_bot());
    });
}

#[test]
fn a_client_without_a_known_key_gets_nowhere() {
    let world = World::new();
    let mut dcs = world.sim.new_keys();
    dcs[0].auth_key = [9; 256];
    let client = world.connect(&dcs);
    let error = world.runtime.block_on(client.is_authorized()).unwrap_err();
    assert!(matches!(error, InvocationError::Authentication(_)), "{error}");
}

#[test]
fn files_come_back_range_by_range() {
    let world = World::new();
    let client = world.client();
    let (channel, peer) = world.channel(&client);
    for part in [2, 0, 1] {
        assert!(world.save(&client, 7, part, 3).unwrap());
    }
    world.ask(&client, &send(&peer, media(7, 3), 70)).unwrap();
    let at = location(&world, &client, channel, &peer);
    let Ok(enums::upload::File::File(file)) =
        world.ask(&client, &get(&at, PART_LEN as i64 - 4096, 4096, false))
    else {
        panic!("no file")
    };
    assert_eq!(file.bytes, vec![0; 4096]);
    let Ok(enums::upload::File::File(end)) =
        world.ask(&client, &get(&at, 3 * PART_LEN as i64 - 1024, 2048, true))
    else {
        panic!("no file")
    };
    assert_eq!(end.bytes, vec![2; 1024]);
    for (offset, limit, precise, name) in [
        (1024, 4096, false, "OFFSET_INVALID"),
        (0, 12_288, false, "LIMIT_INVALID"),
        (0, 2 << 20, true, "LIMIT_INVALID"),
        (1 << 19, 1 << 20, true, "OFFSET_INVALID"),
        (100, 1024, true, "OFFSET_INVALID"),
    ] {
        let refused = world.refusal(&client, &get(&at, offset, limit, precise));
        assert_eq!(refused.1, name);
    }
    world.sim.world().expire_references();
    assert_eq!(world.refusal(&client, &get(&at, 0, 4096, false)).1, "FILE_REFERENCE_EXPIRED");
    let at = location(&world, &client, channel, &peer);
    assert!(world.ask(&client, &get(&at, 0, 4096, false)).is_ok());
    assert_eq!(world.sim.world().calls("upload.saveBigFilePart"), 3);
}

#[test]
fn a_file_lives_at_its_data_centre() {
    let world = World::new();
    world.sim.world().set_upload_dc(4);
    let client = world.client();
    let (channel, peer) = world.channel(&client);
    world.save(&client, 7, 0, 1).unwrap();
    world.ask(&client, &send(&peer, media(7, 1), 70)).unwrap();
    let at = location(&world, &client, channel, &peer);
    let refused = world.refusal(&client, &get(&at, 0, 4096, false));
    assert_eq!(refused, (303, "FILE_MIGRATE".to_owned(), Some(4)));
    let foreign = world.runtime.block_on(client.invoke_in_dc(4, &get(&at, 0, 4096, false)));
    assert!(matches!(foreign, Err(InvocationError::Rpc(e)) if e.code == 401));
    let exported = world.ask(&client, &f::auth::ExportAuthorization { dc_id: 4 }).unwrap();
    let enums::auth::ExportedAuthorization::Authorization(exported) = exported;
    let import = f::auth::ImportAuthorization { id: exported.id, bytes: exported.bytes };
    world.runtime.block_on(client.invoke_in_dc(4, &import)).unwrap();
    assert!(world.runtime.block_on(client.invoke_in_dc(4, &get(&at, 0, 4096, false))).is_ok());
    assert!(world.runtime.block_on(client.invoke_in_dc(4, &import)).is_err(), "used twice");
}

#[test]
fn history_is_read_by_pages_and_messages_go() {
    let world = World::new();
    let client = world.client();
    let (channel, peer) = world.channel(&client);
    assert_eq!(world.history(&client, &peer, 0, 0), []);
    let place = Place::Channel(channel);
    for n in 1..=250 {
        assert_eq!(world.sim.world().post(place, &format!("message {n}"), None), n);
    }
    assert_eq!(world.history(&client, &peer, 0, 0), (151..=250).rev().collect::<Vec<_>>());
    assert_eq!(world.history(&client, &peer, 151, 0), (51..=150).rev().collect::<Vec<_>>());
    // upwards, as whoever follows reads
    assert_eq!(world.history(&client, &peer, 1, -100), (1..=100).rev().collect::<Vec<_>>());
    assert_eq!(world.history(&client, &peer, 201, -100), (201..=250).rev().collect::<Vec<_>>());
    assert_eq!(world.history(&client, &peer, 251, -100), []);

    let enums::InputPeer::Channel(input) = &peer else { panic!("no channel") };
    let deleted = world.ask(
        &client,
        &f::channels::DeleteMessages {
            channel: t::InputChannel { channel_id: channel, access_hash: input.access_hash }.into(),
            id: vec![249, 250, 251],
        },
    );
    let enums::messages::AffectedMessages::Messages(deleted) = deleted.unwrap();
    assert_eq!(deleted.pts_count, 2);
    assert_eq!(world.history(&client, &peer, 241, -100), (241..=248).rev().collect::<Vec<_>>());

    world.sim.world().limits.messages_max = Some(10);
    assert_eq!(world.history(&client, &peer, 0, 0), (239..=248).rev().collect::<Vec<_>>());
}

#[test]
fn messages_may_show_up_late() {
    let now = Arc::new(AtomicU64::new(0));
    let clock = now.clone();
    let clock = Clock::new(move || Duration::from_secs(clock.load(Ordering::SeqCst)));
    let world = World::with(Sim::start_at(&[2], clock).unwrap());
    let client = world.client();
    let (channel, peer) = world.channel(&client);
    world.sim.world().limits.visibility_delay = Duration::from_secs(5);
    for _ in 0..5 {
        world.sim.world().post(Place::Channel(channel), "x", None);
    }
    assert_eq!(world.history(&client, &peer, 0, 0), [5, 3, 1]);
    now.store(5, Ordering::SeqCst);
    assert_eq!(world.history(&client, &peer, 0, 0), [5, 4, 3, 2, 1]);
}

#[test]
fn a_lost_answer_is_a_message_that_cannot_be_sent_twice() {
    let world = World::new();
    let client = world.client();
    let (channel, peer) = world.channel(&client);
    world.save(&client, 7, 0, 1).unwrap();
    world.sim.world().fault(Fault::new("messages.sendMedia", Action::LoseAnswer));
    let request = send(&peer, media(7, 1), 70);
    assert!(matches!(
        world.ask(&client, &request),
        Err(InvocationError::Io(_) | InvocationError::Dropped(_))
    ));
    assert_eq!(world.sim.world().faults_waiting(), 0);
    assert_eq!(world.refusal(&client, &request).1, "RANDOM_ID_DUPLICATE");
    assert_eq!(world.sim.world().messages(Place::Channel(channel)).len(), 1);
    // Its memory is short where the limits say so.
    world.sim.world().limits.repeats_known = 0;
    world.save(&client, 8, 0, 1).unwrap();
    world.ask(&client, &send(&peer, media(8, 1), 80)).unwrap();
    world.save(&client, 8, 0, 1).unwrap();
    world.ask(&client, &send(&peer, media(8, 1), 80)).unwrap();
}

#[test]
fn parts_are_forgotten() {
    let world = World::new();
    let client = world.client();
    let (_, peer) = world.channel(&client);
    world.save(&client, 7, 0, 2).unwrap();
    let refused = world.refusal(&client, &send(&peer, media(7, 2), 70));
    assert_eq!((refused.1.as_str(), refused.2), ("FILE_PART_MISSING", Some(1)));
    world.save(&client, 7, 1, 2).unwrap();
    world.sim.world().expire_parts();
    let refused = world.refusal(&client, &send(&peer, media(7, 2), 70));
    assert_eq!((refused.1.as_str(), refused.2), ("FILE_PART_MISSING", Some(0)));
    for part in [0, 1] {
        world.save(&client, 7, part, 2).unwrap();
    }
    world.ask(&client, &send(&peer, media(7, 2), 70)).unwrap();
}

#[test]
fn who_sends_too_much_waits() {
    let now = Arc::new(AtomicU64::new(100));
    let clock = now.clone();
    let clock = Clock::new(move || Duration::from_secs(clock.load(Ordering::SeqCst)));
    let world = World::with(Sim::start_at(&[2], clock).unwrap());
    let client = world.client();
    let bytes = 2.0 * PART_LEN as f64;
    world.sim.world().limits.upload_bytes =
        Some(Bucket::new("FLOOD_PREMIUM_WAIT", bytes, bytes / 20.0));
    world.save(&client, 7, 0, 4).unwrap();
    world.save(&client, 7, 1, 4).unwrap();
    let Err(InvocationError::Rpc(error)) = world.save(&client, 7, 2, 4) else { panic!("no flood") };
    assert_eq!(
        (error.code, error.name.as_str(), error.value),
        (420, "FLOOD_PREMIUM_WAIT", Some(10))
    );
    now.store(110, Ordering::SeqCst);
    world.save(&client, 7, 2, 4).unwrap();
}

#[test]
fn bans_and_outages() {
    let world = World::new();
    let client = world.client();
    let (channel, peer) = world.channel(&client);
    world.sim.world().ban(world.user, RpcError::new(401, "USER_DEACTIVATED_BAN"));
    assert_eq!(world.refusal(&client, &f::updates::GetState {}).1, "USER_DEACTIVATED_BAN");
    world.sim.world().heal();
    world.ask(&client, &f::updates::GetState {}).unwrap();
    world.sim.world().change_salt();
    world.ask(&client, &f::updates::GetState {}).unwrap();

    world.sim.set_down(true);
    assert!(world.ask(&client, &f::updates::GetState {}).is_err());
    world.sim.set_down(false);
    let mut answers = (0..20).map(|_| world.ask(&client, &f::updates::GetState {}).is_ok());
    assert!(answers.any(|is_ok| is_ok));

    world.sim.world().delete_channel(channel);
    let refused = world.refusal(&client, &send(&peer, media(1, 1), 1));
    assert_eq!(refused.1, "CHANNEL_INVALID");
    world.sim.world().log_everybody_out();
    let refused = world.refusal(&client, &f::updates::GetState {});
    assert_eq!((refused.0, refused.1.as_str()), (401, "AUTH_KEY_UNREGISTERED"));
}

#[test]
fn some_answers_never_come() {
    let world = World::new();
    let client = world.client();
    world.ask(&client, &f::updates::GetState {}).unwrap();
    world.sim.world().fault(Fault::new("updates.getState", Action::Hang));
    world.runtime.block_on(async {
        let state = f::updates::GetState {};
        let waiting = client.invoke(&state);
        assert!(tokio::time::timeout(Duration::from_millis(300), waiting).await.is_err());
        client.invoke(&state).await.unwrap();
    });
}

#[test]
fn chance_spares_logins() {
    let world = World::new();
    let client = world.client();
    let (_, peer) = world.channel(&client);
    world.sim.world().set_chaos(Some(Chaos::new(1, 1000)));
    world.ask(&client, &f::updates::GetState {}).unwrap();
    let sent = (0..20).filter(|n| world.ask(&client, &send(&peer, media(*n, 1), *n)).is_ok());
    assert_eq!(sent.count(), 0);
}

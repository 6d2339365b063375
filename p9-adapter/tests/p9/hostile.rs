//! Clients that follow no protocol.

use crate::p9::client::{Client, EINVAL, EOPNOTSUPP, O_RDONLY, Put, T_READ, T_VERSION, T_WRITE};
use crate::p9::support::{MSIZE, ROOT, Served, model};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::sync::Arc;
use tgcryptfs_p9::{Export, fuzz, fuzz_stream};

/// Whether the server still serves others.
fn is_alive(served: &Served) {
    let mut client = served.client();
    client.stat(ROOT).unwrap();
}

fn hangs_up(mut client: Client, bytes: &[u8]) {
    client.send_raw(bytes);
    assert!(client.try_receive().is_none());
}

#[test]
fn messages_that_are_too_long_are_not_read() {
    let served = Served::new();
    let message = |len: u32| Put::default().u32(len).u8(T_VERSION).u16(1).0;
    // Before anything is agreed on, and after.
    hangs_up(served.connect(), &message(8193));
    for len in [MSIZE + 1, u32::MAX, 6, 0] {
        hangs_up(served.client(), &message(len));
    }
    is_alive(&served);
    // What fits exactly is read.
    let mut client = served.client();
    let fid = client.file(ROOT, "f", b"");
    let count = MSIZE - 23;
    assert_eq!(client.write(fid, 0, &vec![1; count as usize]), Ok(count));
    let put = Put::default().u32(fid).u64(0).u32(count + 1).bytes(&vec![1; count as usize + 1]);
    client.send(1, T_WRITE, &put);
    assert!(client.try_receive().is_none());
}

#[test]
fn broken_messages_are_refused_and_the_connection_goes_on() {
    let served = Served::new();
    let mut client = served.client();
    for kind in [24, 26, 110, 116, 118, 120] {
        assert_eq!(client.call(kind, &Put::default().u8(1)), Err(EINVAL), "message {kind}");
    }
    for kind in [0, 6, 10, 106, 124, 255] {
        client.send(1, kind, &Put::default());
        let answer = client.receive();
        assert_eq!((answer.kind, answer.fields[0]), (7, EOPNOTSUPP as u8), "message {kind}");
    }
    let claims = Put::default().u32(ROOT).u64(0).u32(u32::MAX).bytes(b"little");
    assert_eq!(client.call(T_WRITE, &claims), Err(EINVAL));
    client.stat(ROOT).unwrap();
}

#[test]
fn nothing_is_done_before_a_version_is_agreed_on() {
    let served = Served::new();
    let mut client = served.connect();
    assert_eq!(client.attach(ROOT, 0), Err(EINVAL));
    assert_eq!(client.walk(ROOT, 1, &["a"]), Err(EINVAL));
    crate::p9::support::ready(client);
}

#[test]
fn half_a_message_is_no_message() {
    let served = Served::new();
    let mut client = served.client();
    client.make_dir(ROOT, "d", 0o755).unwrap();
    let message = Put::default().u32(1000).u8(T_WRITE).u16(1).u32(ROOT).u64(0).u32(900).0;
    client.send_raw(&message);
    drop(client);
    is_alive(&served);
}

#[test]
fn many_come_and_go() {
    let served = Served::new();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let served = &served;
            scope.spawn(move || {
                for round in 0..30 {
                    let mut client = served.client();
                    let fid = client.file(ROOT, &format!("f{thread}-{round}"), b"data");
                    client.send(9, T_READ, &Put::default().u32(fid).u64(0).u32(4));
                    if round % 2 == 0 {
                        client.receive();
                    }
                }
            });
        }
    });
    let mut client = served.client();
    let dir = client.walked(ROOT, &[]).unwrap();
    client.open(dir, O_RDONLY).unwrap();
    assert_eq!(client.list(dir, 0, 60_000).unwrap().len(), 122);
    crate::p9::support::wait_until("all but one to be gone", || served.tcp.peers().len() == 1);
}

/// Messages that a session is likely to make something of.
fn messages() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let small = 0_u32..5;
    let name = prop_oneof![Just("a"), Just("b"), Just(".."), Just("")];
    let fields = (small.clone(), small, name, 0_u64..9, any::<u32>(), any::<bool>()).prop_map(
        |(one, two, name, number, any, is_second)| {
            let put = Put::default().u32(one);
            let put = if is_second { put.u32(two) } else { put };
            put.s(name).u64(number).u32(any).0
        },
    );
    let kinds = prop_oneof![
        Just(12_u8),
        Just(14),
        Just(16),
        Just(18),
        Just(20),
        Just(22),
        Just(24),
        Just(26),
        Just(30),
        Just(32),
        Just(40),
        Just(50),
        Just(52),
        Just(54),
        Just(70),
        Just(72),
        Just(74),
        Just(76),
        Just(110),
        Just(116),
        Just(118),
        Just(120),
        Just(122),
        any::<u8>(),
    ];
    prop::collection::vec((kinds, prop_oneof![fields, any::<Vec<u8>>()], 0_usize..99), 0..40)
        .prop_map(|list| {
            let cut = |(kind, mut fields, len): (u8, Vec<u8>, usize)| {
                // Most at their length, some cut off.
                if len < 40 {
                    fields.truncate(len);
                }
                (kind, fields)
            };
            list.into_iter().map(cut).collect()
        })
}

fn framed(kind: u8, fields: &[u8]) -> Vec<u8> {
    Put::default().u32(fields.len() as u32 + 7).u8(kind).u16(3).bytes(fields).0
}

#[test]
fn any_session_is_answered() {
    let begin = [
        framed(T_VERSION, &Put::default().u32(8192).s("9P2000.L").0),
        framed(104, &Put::default().u32(0).u32(u32::MAX).s("").s("").u32(0).0),
        framed(72, &Put::default().u32(0).s("a").u32(0o755).u32(0).0),
        framed(110, &Put::default().u32(0).u32(1).u16(1).s("a").0),
        framed(14, &Put::default().u32(1).s("b").u32(2).u32(0o644).u32(0).0),
    ];
    let mut runner = TestRunner::new(Config { cases: 400, ..Config::default() });
    runner
        .run(&messages(), |messages| {
            let mut input = begin.concat();
            for (kind, fields) in &messages {
                input.extend(framed(*kind, fields));
            }
            let answers = fuzz(Arc::new(model()), Export::default(), &input);
            let streamed = fuzz_stream(Arc::new(model()), Export::default(), &input, 100);
            prop_assert!(streamed == answers, "a stream is cut otherwise");
            // One each, if none was a new version that asks for more than fits.
            let mut rest = &answers[..];
            let mut count = 0;
            while let Some((len, _)) = rest.split_first_chunk::<4>() {
                rest = &rest[u32::from_le_bytes(*len) as usize..];
                count += 1;
            }
            prop_assert_eq!(count, begin.len() + messages.len());
            Ok(())
        })
        .unwrap();
}

//! What is answered to calls that are wrong, and to what is no call at all.

use crate::probe::Probe;
use crate::support::{Served, export, model, policy};
use crate::wire::{Auth, MOUNT, NFS, Out, Verdict, Wire, call, marked};
use listen::{Endpoint, Policy};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use tgcryptfs_nfs::Server;
use tokio::runtime::Builder;

const NOTHING: &Out = &Out(Vec::new());

#[test]
fn both_programs_answer_to_nothing() {
    let served = Served::new();
    let mut wire = served.wire();
    for auth in [Auth::None, Auth::root()] {
        for program in [NFS, MOUNT] {
            let reply = wire.ask(&auth, (program, 3, 0), NOTHING);
            assert_eq!((reply.verdict, reply.body.len()), (Verdict::Success, 0));
        }
    }
}

#[test]
fn what_is_not_there_is_refused_by_the_standard() {
    let served = Served::new();
    let mut wire = served.wire();
    let mut ask = |target| {
        let reply = wire.ask(&Auth::root(), target, NOTHING);
        let body = reply.body.chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap()));
        (reply.verdict, body.collect::<Vec<_>>())
    };
    // Program, version, procedure; 100227 is where a Linux client looks for ACLs.
    for program in [100_000, 100_021, 100_227] {
        assert_eq!(ask((program, 3, 0)), (Verdict::Refused(1), vec![]));
    }
    for (program, version) in [(NFS, 2), (NFS, 4), (MOUNT, 1), (MOUNT, 4)] {
        assert_eq!(ask((program, version, 0)), (Verdict::Refused(2), vec![3, 3]));
    }
    for (program, procedure) in [(NFS, 22), (NFS, u32::MAX), (MOUNT, 6)] {
        assert_eq!(ask((program, 3, procedure)), (Verdict::Refused(3), vec![]));
    }
    for procedure in 1..22 {
        assert_eq!(ask((NFS, 3, procedure)), (Verdict::Refused(4), vec![]), "{procedure}");
    }
    assert_eq!(ask((NFS, 3, 0)), (Verdict::Success, vec![]), "it goes on");
}

#[test]
fn another_version_of_the_protocol_is_denied() {
    let served = Served::new();
    let mut wire = served.wire();
    wire.send(&Out::default().words(&[9, 0, 3, NFS, 3, 0, 0, 0, 0, 0]).0);
    let reply = wire.reply();
    assert_eq!((reply.xid, reply.verdict), (9, Verdict::Denied(0, 2)));
    assert_eq!(reply.body, [0, 0, 0, 2]);
}

#[test]
fn credentials_of_other_kinds_are_denied() {
    let served = Served::new();
    let mut wire = served.wire();
    // AUTH_SHORT, RPCSEC_GSS, AUTH_TLS, and an AUTH_SYS with too many groups.
    for flavour in [2, 6, 7] {
        wire.send(&Out::default().words(&[9, 0, 2, NFS, 3, 0, flavour, 0, 0, 0]).0);
        assert_eq!(wire.reply().verdict, Verdict::Denied(1, 1), "flavour {flavour}");
    }
    let many = Auth::Sys(0, 0, vec![1; 17]);
    assert_eq!(wire.ask(&many, (NFS, 3, 0), NOTHING).verdict, Verdict::Denied(1, 1));
}

#[test]
fn what_is_no_call_ends_the_connection() {
    let served = Served::new();
    for record in [&[][..], &[0; 3], &[0, 0, 0, 7], &[0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0]] {
        let mut wire = served.wire();
        wire.send(record);
        assert!(wire.is_ended(), "{record:?}");
    }
    assert!(served.wire().mount(&Auth::root(), "/").is_ok());
}

#[test]
fn a_record_that_is_too_long_ends_the_connection_at_once() {
    let served = Served::new();
    for mark in [0x7fff_ffff_u32, 0xffff_ffff, 1 << 31 | 0x11_0000] {
        let mut wire = served.wire();
        wire.stream.write_all(&mark.to_be_bytes()).unwrap();
        assert!(wire.is_ended(), "{mark:#x}");
    }
}

#[test]
fn a_call_may_come_in_fragments() {
    let served = Served::new();
    let mut wire = served.wire();
    let record = call(5, &Auth::root(), (MOUNT, 3, 1), &Out::default().opaque(b"/").0);
    let (last, others) = record.split_at(record.len() - 3);
    for part in last.chunks(7) {
        let mark = part.len() as u32;
        wire.stream.write_all(&[&mark.to_be_bytes()[..], part].concat()).unwrap();
    }
    wire.stream.write_all(&marked(others)).unwrap();
    assert_eq!(wire.reply().verdict, Verdict::Success);
}

#[test]
fn calls_that_come_together_are_all_answered() {
    let served = Served::new();
    let (mut wire, root) = served.mounted();
    let arguments = Out::default().opaque(&root).0;
    let burst: Vec<u8> = (0..500)
        .flat_map(|xid| marked(&call(xid, &Auth::root(), (NFS, 3, 1), &arguments)))
        .collect();
    wire.stream.write_all(&burst).unwrap();
    let mut xids: Vec<_> = (0..500).map(|_| wire.reply().xid).collect();
    xids.sort_unstable();
    assert_eq!(xids, (0..500).collect::<Vec<_>>());
}

/// Arguments that begin with a good handle, so that what follows is looked at.
fn arguments() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::collection::vec(prop_oneof![0_u32..8, any::<u32>()], 0..40);
    (any::<bool>(), words).prop_map(|(has_handle, words)| {
        let out = Out::default();
        let out = if has_handle { out.opaque(&crate::support::handle(1)) } else { out };
        out.words(&words).0
    })
}

#[test]
fn any_arguments_get_an_answer() {
    let served = Served::new();
    let wire = Mutex::new(served.wire());
    let mut runner = TestRunner::new(Config { cases: 3000, ..Config::default() });
    let calls = (0_u32..22, any::<bool>(), arguments(), any::<prop::sample::Index>());
    runner
        .run(&calls, |(procedure, is_cut, mut arguments, cut)| {
            if is_cut && !arguments.is_empty() {
                arguments.truncate(cut.index(arguments.len()));
            }
            let reply =
                wire.lock().unwrap().ask(&Auth::user(1000), (NFS, 3, procedure), &Out(arguments));
            // Never "something broke here", which is what a panic becomes.
            prop_assert!(matches!(reply.verdict, Verdict::Success | Verdict::Refused(4)));
            Ok(())
        })
        .unwrap();
}

#[test]
fn any_bytes_leave_the_server_alive() {
    let served = Served::new();
    let mut runner = TestRunner::new(Config { cases: 200, ..Config::default() });
    runner
        .run(&(prop::collection::vec(any::<u8>(), 0..300), any::<bool>()), |(bytes, is_marked)| {
            let mut wire = served.wire();
            let sent = if is_marked { marked(&bytes) } else { bytes };
            // The server may have ended the connection already.
            let _ = wire.stream.write_all(&sent);
            Ok(())
        })
        .unwrap();
    assert!(served.wire().mount(&Auth::root(), "/").is_ok());
}

#[test]
fn many_connections_are_served_and_too_many_are_not() {
    let policy = Policy { connections_max: 100, ..policy() };
    let served = Served::start(Probe::new(model()), export(), policy);
    let mut wires: Vec<_> = (0..100).map(|_| served.wire()).collect();
    for wire in &mut wires {
        assert!(wire.mount(&Auth::root(), "/").is_ok());
    }
    let stream = std::net::TcpStream::connect(served.addr).unwrap();
    assert!(Wire::over(stream).is_ended());
    for wire in &mut wires {
        assert_eq!(wire.ask(&Auth::None, (NFS, 3, 0), NOTHING).verdict, Verdict::Success);
    }
}

#[test]
fn a_unix_socket_is_served_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let endpoint = Endpoint::Unix(UnixListener::bind(&path).unwrap());
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let mut export = export();
    export.match_peer_uid = true;
    let fs = Arc::new(model());
    let handle = runtime.handle().clone();
    let server = Server::start(fs, endpoint, policy(), export, handle).unwrap();
    assert_eq!(server.local_addr(), None);
    let mut stream = UnixStream::connect(&path).unwrap();
    // Who connects is known; to be somebody else takes root.
    let uid = rustix::process::getuid().as_raw();
    for (claim, len) in [(uid, 24), (uid + 1, if uid == 0 { 24 } else { 20 })] {
        stream.write_all(&marked(&call(5, &Auth::user(claim), (NFS, 3, 0), &[]))).unwrap();
        let mut reply = vec![0; 4 + len];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply[3], len as u8);
    }
    server.stop();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
}

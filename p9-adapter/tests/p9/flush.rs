//! Requests that wait: what they hold up, how they end, and what a panic costs.

use crate::p9::client::{
    Client, EBADF, EIO, O_APPEND, O_RDONLY, O_RDWR, O_TRUNC, Put, R_ERROR, T_CLUNK, T_FLUSH,
    T_FSYNC, T_GETATTR, T_LOPEN, T_MKDIR, T_READ, T_VERSION, T_WALK, T_WRITE, T_XATTRCREATE, Take,
};
use crate::p9::support::{MSIZE, ROOT, Served, trusting, wait_until};
use std::time::Duration;
use tgcryptfs_p9::{Bounds, Export};
use vfs::ErrorKind;

fn sync(fid: u32) -> Put {
    Put::default().u32(fid).u32(0)
}

fn flush(client: &mut Client, tag: u16, flushed: u16) {
    client.send(tag, T_FLUSH, &Put::default().u16(flushed));
}

/// Kind and tag of the next answer.
fn next(client: &mut Client) -> (u8, u16) {
    let answer = client.receive();
    (answer.kind, answer.tag)
}

/// A fid by which an attribute of the file f is set once it is let go of.
fn writes_xattr(client: &mut Client) -> u32 {
    let fid = client.walked(ROOT, &["f"]).unwrap();
    let put = Put::default().u32(fid).s("user.a").u64(1).u32(0);
    client.call(T_XATTRCREATE, &put).unwrap();
    client.write(fid, 0, b"v").unwrap();
    fid
}

#[test]
fn a_slow_request_stops_nobody_else() {
    let served = Served::new();
    let mut client = served.client();
    let fid = client.file(ROOT, "f", b"data");
    served.probe.shut("sync");
    for tag in 10..20 {
        client.send(tag, T_FSYNC, &sync(fid));
    }
    for _ in 0..100 {
        assert_eq!(client.read(fid, 0, 10).unwrap(), b"data");
        client.stat(ROOT).unwrap();
    }
    assert_eq!(served.probe.count("sync"), 0);
    served.probe.open_up("sync");
    let mut tags: Vec<_> = (10..20).map(|_| next(&mut client)).collect();
    tags.sort_unstable();
    assert_eq!(tags, (10..20).map(|tag| (T_FSYNC + 1, tag)).collect::<Vec<_>>());
    assert_eq!(served.probe.count("sync"), 10);
}

#[test]
fn whatever_waits_is_answered() {
    let served = Served::new();
    let mut client = served.client();
    let fid = client.file(ROOT, "f", b"data");
    for method in ["read", "write", "getattr", "lookup", "create", "readdir", "set_xattr", "make"] {
        served.probe.shut(method);
    }
    let open_up = || {
        for method in
            ["read", "write", "getattr", "lookup", "create", "readdir", "set_xattr", "make"]
        {
            #[expect(clippy::disallowed_methods, reason = "sockets know no simulated time")]
            std::thread::sleep(Duration::from_millis(5));
            served.probe.open_up(method);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(open_up);
        assert_eq!(client.read(fid, 0, 10).unwrap(), b"data");
        client.write(fid, 0, b"DATA").unwrap();
        client.stat(fid).unwrap();
        client.walked(ROOT, &["f"]).unwrap();
        let other = client.file(ROOT, "g", b"");
        client.make_dir(ROOT, "d", 0o755).unwrap();
        client.clunk(other).unwrap();
        let writing = writes_xattr(&mut client);
        client.clunk(writing).unwrap();
    });
}

#[test]
fn what_is_flushed_is_cancelled_and_not_answered() {
    let served = Served::new();
    let mut client = served.client();
    let fid = client.file(ROOT, "f", b"data");
    let named = client.walked(ROOT, &["f"]).unwrap();
    let truncates_not = Put::default().u32(named).u32(O_RDONLY);
    let read = Put::default().u32(fid).u64(0).u32(4);
    for (method, kind, put) in
        [("sync", T_FSYNC, sync(fid)), ("read", T_READ, read), ("open", T_LOPEN, truncates_not)]
    {
        served.probe.shut(method);
        client.send(10, kind, &put);
        flush(&mut client, 11, 10);
        assert_eq!(next(&mut client), (T_FLUSH + 1, 11), "{method}");
        served.probe.open_up(method);
        // The tag may be used again.
        client.send(10, kind, &put);
        assert_eq!(next(&mut client), (kind + 1, 10), "{method}");
        assert_eq!(served.probe.count(method), 1, "{method} was done once");
    }
}

/// A client that hears nothing of a change asks for it again.
#[test]
fn what_changes_something_is_done_and_answered_though_it_is_flushed() {
    let served = Served::new();
    let mut client = served.client();
    client.file(ROOT, "f", b"");
    let fid = client.walked(ROOT, &["f"]).unwrap();
    client.open(fid, O_RDWR | O_APPEND).unwrap();
    let other = client.walked(ROOT, &["f"]).unwrap();
    let write = Put::default().u32(fid).u64(0).u32(4).bytes(b"data");
    let mkdir = Put::default().u32(ROOT).s("d").u32(0o755).u32(0);
    let truncate = Put::default().u32(other).u32(O_RDWR | O_TRUNC);
    for (method, kind, put) in
        [("write", T_WRITE, write), ("make", T_MKDIR, mkdir), ("open", T_LOPEN, truncate)]
    {
        let before = served.probe.count(method);
        served.probe.shut(method);
        client.send(10, kind, &put);
        flush(&mut client, 11, 10);
        // Nothing is said of either before it is done.
        client.stat(ROOT).unwrap();
        served.probe.open_up(method);
        let expected = [(kind + 1, 10), (T_FLUSH + 1, 11)];
        assert_eq!(expected.map(|_| next(&mut client)), expected, "{method}");
        assert_eq!(served.probe.count(method), before + 1, "{method}");
        if method == "write" {
            assert_eq!(client.read(fid, 0, 10).unwrap(), b"data");
        }
    }
    client.walked(ROOT, &["d"]).unwrap();
    assert_eq!(client.read(other, 0, 10).unwrap(), b"");
}

#[test]
fn flushes_of_nothing_are_answered() {
    let served = Served::new();
    let mut client = served.client();
    for flushed in [1, 500, 77] {
        flush(&mut client, 77, flushed);
        assert_eq!(next(&mut client), (T_FLUSH + 1, 77));
    }
    client.send(5, T_FLUSH, &Put::default().u8(1));
    assert_eq!(next(&mut client), (R_ERROR, 5));
}

#[test]
fn several_flushes_wait_for_one_request() {
    let served = Served::new();
    let mut client = served.client();
    client.file(ROOT, "f", b"data");
    let writing = writes_xattr(&mut client);
    served.probe.shut("set_xattr");
    // Letting go is not cancelled, so the flushes wait for its answer.
    client.send(10, T_CLUNK, &Put::default().u32(writing));
    flush(&mut client, 11, 10);
    flush(&mut client, 12, 10);
    client.stat(ROOT).unwrap();
    served.probe.open_up("set_xattr");
    let expected = [(T_CLUNK + 1, 10), (T_FLUSH + 1, 11), (T_FLUSH + 1, 12)];
    assert_eq!(expected.map(|_| next(&mut client)), expected);
    assert_eq!(served.probe.count("set_xattr"), 1);
}

#[test]
fn flushing_races_with_answers_and_both_come_in_order() {
    let served = Served::new();
    let mut client = served.client();
    let fid = client.file(ROOT, "f", b"data");
    let mut answered = 0;
    for round in 0..300 {
        served.probe.shut("sync");
        client.send(10, T_FSYNC, &sync(fid));
        client.stat(ROOT).unwrap();
        if round % 2 == 0 {
            served.probe.open_up("sync");
        }
        flush(&mut client, 11, 10);
        let first = next(&mut client);
        if first == (T_FSYNC + 1, 10) {
            answered += 1;
            assert_eq!(next(&mut client), (T_FLUSH + 1, 11));
        } else {
            assert_eq!(first, (T_FLUSH + 1, 11), "and nothing of the other behind it");
        }
    }
    println!("{answered} of 300 were answered before they were flushed");
}

#[test]
fn waiting_requests_are_bounded_by_not_reading() {
    let bounds = Bounds { requests_max: 4, ..Bounds::default() };
    let served = Served::with(Export { bounds, ..trusting() });
    let mut client = served.client();
    let fid = client.file(ROOT, "f", b"data");
    served.probe.shut("sync");
    for tag in 10..14 {
        client.send(tag, T_FSYNC, &sync(fid));
    }
    // A flush is heard even so; what is behind a fifth request is not.
    flush(&mut client, 20, 12);
    assert_eq!(next(&mut client), (T_FLUSH + 1, 20));
    client.send(12, T_FSYNC, &sync(fid));
    let read = Put::default().u32(fid).u64(0).u32(4);
    client.send(14, T_READ, &read);
    client.send(15, T_READ, &read);
    assert_eq!(served.probe.count("read"), 0);
    served.probe.open_up("sync");
    let mut answers: Vec<_> = (0..6).map(|_| next(&mut client)).collect();
    answers.sort_unstable();
    let syncs = (10..14).map(|tag| (T_FSYNC + 1, tag));
    let expected: Vec<_> = syncs.chain([(T_READ + 1, 14), (T_READ + 1, 15)]).collect();
    assert_eq!(answers, expected);
}

#[test]
fn answers_that_go_together_wait_for_nothing_else() {
    let bounds = Bounds { requests_max: 1, ..Bounds::default() };
    let served = Served::with(Export { bounds, ..trusting() });
    let mut client = served.client();
    let fid = client.file(ROOT, "f", b"data");
    let stat = Put::default().u32(fid).u64(u64::MAX);
    let stats: Vec<_> = (10..310).map(|tag| stat.message(tag, T_GETATTR).0).collect();

    // More than is kept, and behind them a part of one that nobody can answer yet.
    let (part, rest) = stats[0].split_at(9);
    client.send_raw(&[&stats.concat()[..], part].concat());
    for tag in 10..310 {
        assert_eq!(next(&mut client), (T_GETATTR + 1, tag));
    }
    client.send_raw(rest);
    assert_eq!(next(&mut client), (T_GETATTR + 1, 10));

    // Behind them one that has to wait, and then one that waits for room.
    served.probe.shut("sync");
    let syncs = [400, 401].map(|tag| sync(fid).message(tag, T_FSYNC).0);
    client.send_raw(&[&stats[1][..], &syncs[0]].concat());
    assert_eq!(next(&mut client), (T_GETATTR + 1, 11));
    client.send_raw(&syncs[1]);
    served.probe.open_up("sync");
    assert_eq!(next(&mut client), (T_FSYNC + 1, 400));
    assert_eq!(next(&mut client), (T_FSYNC + 1, 401));

    served.probe.shut("sync");
    client.send_raw(&[&stats[2][..], &syncs[0], &syncs[1], &stats[3]].concat());
    assert_eq!(next(&mut client), (T_GETATTR + 1, 12));
    served.probe.open_up("sync");
    let answers = [(); 3].map(|()| next(&mut client));
    assert!(answers.contains(&(T_GETATTR + 1, 13)), "{answers:?}");
}

/// What a client sent and nobody read is not done after it has gone.
#[test]
fn what_a_full_connection_holds_is_not_done_late() {
    let bounds = Bounds { requests_max: 4, ..Bounds::default() };
    let served = Served::with(Export { bounds, ..trusting() });
    let mut client = served.client();
    let fid = client.file(ROOT, "f", b"data");
    served.probe.shut("sync");
    for tag in 10..14 {
        client.send(tag, T_FSYNC, &sync(fid));
    }
    let before = served.probe.writes().len();
    let late = Put::default().u32(fid).u64(0).u32(4).bytes(b"late");
    client.send(14, T_WRITE, &late);
    client.send(15, T_WRITE, &late);
    drop(client);
    let other = served.client();
    served.probe.open_up("sync");
    wait_until("the connection to be over", || served.tcp.peers().len() == 1);
    drop(other);
    assert_eq!(served.probe.writes().len(), before);
}

#[test]
fn a_tag_that_is_in_use_ends_the_connection() {
    let served = Served::new();
    let mut client = served.client();
    let fid = client.file(ROOT, "f", b"data");
    served.probe.shut("sync");
    client.send(10, T_FSYNC, &sync(fid));
    client.send(10, T_FSYNC, &sync(fid));
    assert!(client.try_receive().is_none());
    served.client().walked(ROOT, &["f"]).unwrap();
}

#[test]
fn a_new_version_cancels_what_waits() {
    let served = Served::new();
    let mut client = served.client();
    let fid = client.file(ROOT, "f", b"data");
    served.probe.shut("sync");
    client.send(10, T_FSYNC, &sync(fid));
    client.send(u16::MAX, T_VERSION, &Put::default().u32(MSIZE).s("9P2000.L"));
    assert_eq!(next(&mut client), (T_VERSION + 1, u16::MAX));
    served.probe.open_up("sync");
    assert_eq!(client.stat(fid), Err(EBADF));
    assert_eq!(served.probe.count("sync"), 0);
}

#[test]
fn a_panic_costs_one_request() {
    let served = Served::new();
    let mut client = served.client();
    let fid = client.file(ROOT, "f", b"data");
    served.probe.panics("read");
    assert_eq!(client.read(fid, 0, 10), Err(EIO), "at once");
    served.probe.panics("sync");
    served.probe.shut("sync");
    client.send(10, T_FSYNC, &sync(fid));
    client.stat(fid).unwrap();
    served.probe.open_up("sync");
    let answer = client.receive();
    assert_eq!((answer.kind, answer.tag), (R_ERROR, 10));
    assert_eq!(Take(&answer.fields).u32(), ErrorKind::Io.linux_errno().cast_unsigned());
    client.write(fid, 0, b"fine").unwrap();
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody_else() {
    let served = Served::new();
    let mut lazy = served.client();
    let fid = lazy.file(ROOT, "f", &vec![7; 100_000]);
    served.probe.shut("read");
    for tag in 10..60 {
        lazy.send(tag, T_READ, &Put::default().u32(fid).u64(0).u32(100_000));
    }
    // More than the kernel takes for it, from the runtime's own threads.
    served.probe.open_up("read");
    let mut client = served.client();
    let fid = client.walked(ROOT, &["f"]).unwrap();
    client.open(fid, O_RDONLY).unwrap();
    served.probe.shut("sync");
    for _ in 0..20 {
        client.send(10, T_FSYNC, &sync(fid));
        client.stat(fid).unwrap();
        served.probe.open_up("sync");
        assert_eq!(next(&mut client), (T_FSYNC + 1, 10));
        served.probe.shut("sync");
    }
    served.probe.open_up("sync");
    for _ in 10..60 {
        assert_eq!(lazy.receive().fields.len(), 100_004);
    }
}

#[test]
fn a_server_that_stops_finishes_what_is_under_way() {
    let served = Served::new();
    let mut client = served.client();
    let fid = client.file(ROOT, "f", b"data");
    served.probe.shut("sync");
    client.send(10, T_FSYNC, &sync(fid));
    client.stat(ROOT).unwrap();
    std::thread::scope(|scope| {
        let stopped = scope.spawn(|| served.tcp.stop());
        wait_until("the listener to be gone", || {
            std::net::TcpStream::connect(served.addr()).is_err()
        });
        served.probe.open_up("sync");
        assert_eq!(next(&mut client), (T_FSYNC + 1, 10));
        stopped.join().unwrap();
    });
    client.send(11, T_GETATTR, &Put::default().u32(ROOT).u64(0));
    assert!(client.try_receive().is_none());
}

#[test]
fn a_fid_goes_while_it_is_used() {
    let served = Served::new();
    let mut client = served.client();
    let fid = client.file(ROOT, "f", b"data");
    served.probe.shut("read");
    client.send(10, T_READ, &Put::default().u32(fid).u64(0).u32(4));
    client.clunk(fid).unwrap();
    assert_eq!(client.stat(fid), Err(EBADF));
    served.probe.open_up("read");
    let answer = client.receive();
    assert_eq!((answer.kind, &answer.fields[4..]), (T_READ + 1, &b"data"[..]));
    // Two walks to one new fid: the second finds it taken.
    served.probe.shut("lookup");
    for tag in [10, 11] {
        client.send(tag, T_WALK, &Put::default().u32(ROOT).u32(70).u16(1).s("f"));
    }
    client.stat(ROOT).unwrap();
    served.probe.open_up("lookup");
    let mut kinds = [client.receive().kind, client.receive().kind];
    kinds.sort_unstable();
    assert_eq!(kinds, [R_ERROR, T_WALK + 1]);
}

//! The conformance suite through the protocol, over both kinds of sockets.

use crate::p9::remote::Remote;
use crate::p9::support::{MSIZE, Served};
use vfs::Vfs;
use vfs::conformance::{Fixture, Profile, Report, block_on, cases};

const NO_GROUPS: &str = "the protocol carries no groups of a caller";
const NO_RENAME_FLAGS: &str = "there is no message for renaming without replacing";
const NO_ALLOCATE: &str = "there is no message for allocating and punching";
const NO_ACCESS: &str = "there is no message that asks; clients go by the attributes";
const ONE_SPACE: &str = "flock and fcntl locks are the same thing in the protocol";

/// Parts of the suite that the protocol has no messages for.
const AREAS: [(&str, &str); 2] = [
    ("copies", "there is no message for copying"),
    ("sparse", "there is no message for finding holes or making them"),
];

/// Cases that the protocol cannot express, and why not.
const EXCEPT: &[(&str, &str)] = &[];

fn reason(area: &str, name: &str) -> Option<&'static str> {
    let area = AREAS.iter().find(|(excepted, _)| *excepted == area);
    let case = EXCEPT.iter().find(|(excepted, _)| *excepted == name);
    area.or(case).map(|(_, reason)| *reason)
}

fn run(remote: &Remote) {
    let profile = Profile {
        // Who decides is the server's to say.
        chooses_dac: false,
        exclusive_create: false,
        late_writes: false,
        ..Profile::full(0)
    };
    let mut report = Report::default();
    for case in cases::<Remote>() {
        let name = format!("{}::{}", case.area, case.name);
        let reason = reason(case.area, &name);
        if let Some(reason) = reason {
            println!("{name}: {reason}");
        }
        if !(case.applies)(&profile) || reason.is_some() {
            report.skipped.push(name);
            continue;
        }
        let verdict = block_on(async {
            let fixture = Fixture::new(remote.clone(), profile, &name).await?;
            (case.run)(&fixture).await
        });
        match verdict {
            Ok(()) => report.passed += 1,
            Err(failure) => report.failed.push((name, failure)),
        }
    }
    println!("{report}\nskipped: {:?}", report.skipped);
    report.assert_passed();
    assert!(report.passed > 120, "{report}");
}

#[test]
fn the_model_behind_tcp_passes_the_conformance_suite() {
    let served = Served::new();
    let mut client = served.connect();
    client.version(MSIZE, "9P2000.L");
    run(&Remote::new(client, served.probe.limits()));
}

#[test]
fn the_model_behind_a_unix_socket_passes_the_conformance_suite() {
    if !crate::p9::support::is_root() {
        println!("skipped: on a Unix socket only root may act as others");
        return;
    }
    let served = Served::new();
    let mut client = served.connect_unix();
    client.version(MSIZE, "9P2000.L");
    run(&Remote::new(client, served.probe.limits()));
}

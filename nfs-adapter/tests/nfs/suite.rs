//! The conformance suite through the protocol.
//!
//! What NFSv3 cannot say is listed with the reason.

use crate::client::Client;
use crate::support::Served;
use vfs::conformance::{Fixture, Profile, Report, block_on, cases};

/// Whole parts of the trait that the protocol has no words for.
const WITHOUT: &[(&str, &str)] = &[
    ("xattrs", "there are no extended attributes in the protocol"),
    ("locks", "locks are another protocol's, which is not served"),
    ("copies", "clients copy by reading and writing"),
    ("sparse", HOLES),
];

/// One case of those parts that has words.
const WITH: &str = "sparse::a_byte_far_out_costs_little";

const NO_OPEN: &str = "there is no open: what has no name any more is gone";
const HOLES: &str = "there is no allocating, punching and seeking";
const RENAME: &str = "there is only the rename that replaces";
const TIMES: &str = "seconds have 32 bits and no sign";

/// Cases that cannot be said.
const EXCEPT: &[(&str, &str)] = &[
    ("handles::an_unlinked_open_file_lives_on", NO_OPEN),
    ("handles::an_unlinked_file_lives_until_the_last_handle", NO_OPEN),
    ("handles::an_unlinked_open_file_gets_no_new_name", NO_OPEN),
    ("handles::a_handle_outlives_a_chmod", "there is no open: what counts is the mode now"),
    ("handles::handles_flush", NO_OPEN),
    ("rename::a_replaced_open_file_lives_on", NO_OPEN),
    ("stability::an_unlinked_open_file_syncs", NO_OPEN),
    ("tree::a_removed_directory_takes_no_more_names", NO_OPEN),
    ("rename::no_replace_does_not_replace", RENAME),
    ("rename::exchange_needs_both", RENAME),
    ("rename::files_trade_places", RENAME),
    ("rename::a_file_and_a_directory_trade_places", RENAME),
    ("rename::directories_trade_places_across_parents", RENAME),
    ("rename::the_source_must_exist", RENAME),
    ("rename::a_directory_does_not_move_into_itself", RENAME),
    ("rename::a_directory_does_not_replace_its_ancestor", RENAME),
    ("rename::two_names_of_one_file_stay", RENAME),
    ("permissions::sticky_directories_protect_entries", RENAME),
    ("permissions::data_needs_read_and_write_permission", HOLES),
    ("attributes::times_keep_nanoseconds_and_the_past", TIMES),
    ("attributes::reading_leaves_a_fresh_access_time", TIMES),
    ("attributes::an_old_access_time_is_refreshed", TIMES),
];

fn reason(area: &str, name: &str) -> Option<&'static str> {
    let part = WITHOUT.iter().find(|(without, _)| *without == area && name != WITH);
    let case = EXCEPT.iter().find(|(except, _)| *except == name);
    part.or(case).map(|(_, reason)| *reason)
}

#[test]
fn the_model_behind_nfs_passes_the_conformance_suite() {
    let served = Served::new();
    let client = Client::new(served.addr);
    let profile = Profile {
        // Who decides is settled.
        chooses_dac: false,
        has_change: false,
        has_btime: false,
        late_writes: false,
        ..Profile::full(4096)
    };
    let mut report = Report::default();
    for case in cases::<Client>() {
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
            let fixture = Fixture::new(client.clone(), profile, &name).await?;
            (case.run)(&fixture).await
        });
        match verdict {
            Ok(()) => report.passed += 1,
            Err(failure) => report.failed.push((name, failure)),
        }
    }
    println!("{report}\nskipped: {:?}", report.skipped);
    report.assert_passed();
    assert!(report.passed > 110, "{report}");
}

#[test]
fn what_is_excepted_is_in_the_suite() {
    let names: Vec<_> =
        cases::<Client>().iter().map(|case| format!("{}::{}", case.area, case.name)).collect();
    for name in EXCEPT.iter().map(|(name, _)| *name).chain([WITH]) {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
}

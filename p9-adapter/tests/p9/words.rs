//! What of the conformance suite 9P has messages for, and the suite by those.
//!
//! What it cannot express is listed with the reason. Tests of the engine take this in too.

use crate::p9::remote::Remote;
use vfs::conformance::{Profile, block_on, run_except};

const NO_GROUPS: &str = "the protocol carries no groups of a caller";
const NO_RENAME_FLAGS: &str = "there is no message for renaming without replacing";
const NO_ALLOCATE: &str = "there is no message for allocating and punching";
const NO_ACCESS: &str = "there is no message that asks; clients go by the attributes";
const ONE_SPACE: &str = "flock and fcntl locks are the same thing in the protocol";

/// What the protocol cannot express, and why not.
const EXCEPT: &[(&str, &str)] = &[
    ("copies", "there is no message for copying"),
    ("sparse", "there is no message for finding holes or making them"),
    ("rename::the_source_must_exist_whatever_is_asked_for", NO_RENAME_FLAGS),
    ("rename::no_replace_does_not_replace", NO_RENAME_FLAGS),
    ("rename::exchange_needs_both", NO_RENAME_FLAGS),
    ("rename::files_trade_places", NO_RENAME_FLAGS),
    ("rename::a_file_and_a_directory_trade_places", NO_RENAME_FLAGS),
    ("rename::directories_trade_places_across_parents", NO_RENAME_FLAGS),
    ("rename::a_directory_does_not_trade_places_with_what_is_in_it", NO_RENAME_FLAGS),
    ("rename::two_names_of_one_file_trade_places_for_nothing", NO_RENAME_FLAGS),
    ("permissions::sticky_directories_protect_entries_from_exchanges", NO_RENAME_FLAGS),
    ("permissions::holes_and_copies_need_write_permission", NO_ALLOCATE),
    ("xattrs::capabilities_go_with_every_change", NO_ALLOCATE),
    ("permissions::the_first_class_that_fits_decides", NO_GROUPS),
    ("permissions::supplementary_groups_count", NO_GROUPS),
    ("permissions::owners_choose_among_their_groups", NO_GROUPS),
    ("permissions::set_group_id_needs_the_group", NO_GROUPS),
    ("permissions::chown_drops_set_id_bits", NO_GROUPS),
    ("permissions::access_reports_what_is_granted", NO_ACCESS),
    ("locks::flock_and_posix_locks_ignore_each_other", ONE_SPACE),
];

/// The suite by a client of a server.
pub(crate) fn run(remote: &Remote) {
    let profile = Profile {
        // Who decides is the server's to say.
        chooses_dac: false,
        exclusive_create: false,
        late_writes: false,
        // Those are about how many there may be, which no message says.
        slow: false,
        ..Profile::full(0)
    };
    let report = block_on(run_except(&profile, EXCEPT, || remote.clone()));
    println!("{report}");
    report.assert_passed();
    assert!(report.passed > 150, "{report}");
}

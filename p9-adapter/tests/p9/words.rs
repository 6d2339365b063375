//! What of the conformance suite 9P has messages for, and the suite by those.
//!
//! What it cannot express is listed with the reason. Tests of the engine take this in too.

use crate::p9::remote::Remote;
use vfs::conformance::{Profile, block_on, run_except};

const NO_GROUPS: &str = "the protocol carries no groups of a caller";
const NO_RENAME_FLAGS: &str = "there is no message for renaming without replacing";
const NO_ALLOCATE: &str = "there is no message for allocating and punching";
const NO_SEEK: &str = "there is no message for finding data and holes";
const NO_ACCESS: &str = "there is no message that asks; clients go by the attributes";
const ONE_SPACE: &str = "flock and fcntl locks are the same thing in the protocol";

/// What the protocol cannot express, and why not.
const EXCEPT: &[(&str, &str)] = &[
    ("copies", "there is no message for copying"),
    ("sparse::a_punched_hole_reads_as_zeros", NO_ALLOCATE),
    ("sparse::punching_past_the_end_does_not_grow", NO_ALLOCATE),
    ("sparse::zeroing_grows_unless_told_not_to", NO_ALLOCATE),
    ("sparse::reserving_grows_unless_told_not_to", NO_ALLOCATE),
    ("sparse::reserving_leaves_data_alone", NO_ALLOCATE),
    ("sparse::ranges_to_allocate_have_limits", NO_ALLOCATE),
    ("sparse::allocating_needs_a_file", NO_ALLOCATE),
    ("sparse::allocating_needs_a_handle_that_writes", NO_ALLOCATE),
    ("sparse::seeking_finds_data_and_holes", NO_SEEK),
    ("sparse::seeking_at_the_end_finds_nothing", NO_SEEK),
    ("sparse::a_file_without_holes_ends_in_one", NO_SEEK),
    ("sparse::a_file_that_is_one_hole_has_no_data", NO_SEEK),
    ("sparse::seeking_never_passes_data_by", NO_SEEK),
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

/// Bytes of a hole that takes no room; what finds holes is left out.
const HOLE: u64 = 4096;

/// The suite by a client of a server. What is slow are as many links as a file may have, for
/// half a million messages.
pub(crate) fn run(remote: &Remote, slow: bool) {
    let profile = Profile {
        // Who decides is the server's to say.
        chooses_dac: false,
        exclusive_create: false,
        late_writes: false,
        slow,
        ..Profile::full(HOLE)
    };
    let report = block_on(run_except(&profile, EXCEPT, || remote.clone()));
    println!("{report}");
    report.assert_passed();
    assert!(report.passed > 150, "{report}");
}

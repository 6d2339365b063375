//! What of the conformance suite NFSv3 has words for, and the suite in these words.
//!
//! What it cannot say is listed with the reason. Tests of the engine take this in too.

use crate::client::Client;
use vfs::conformance::{Profile, block_on, run_except};

const NO_OPEN: &str = "there is no open: what has no name any more is gone";
const HOLES: &str = "there is no allocating, punching and seeking";
const RENAME: &str = "there is only the rename that replaces";
const TIMES: &str = "seconds have 32 bits and no sign";

/// What the protocol has no words for.
pub(crate) const EXCEPT: &[(&str, &str)] = &[
    ("xattrs", "there are no extended attributes in the protocol"),
    ("locks", "locks are another protocol's, which is not served"),
    ("copies", "clients copy by reading and writing"),
    ("sparse::a_punched_hole_reads_as_zeros", HOLES),
    ("sparse::punching_past_the_end_does_not_grow", HOLES),
    ("sparse::zeroing_grows_unless_told_not_to", HOLES),
    ("sparse::reserving_grows_unless_told_not_to", HOLES),
    ("sparse::reserving_leaves_data_alone", HOLES),
    ("sparse::ranges_to_allocate_have_limits", HOLES),
    ("sparse::allocating_needs_a_file", HOLES),
    ("sparse::allocating_needs_a_handle_that_writes", HOLES),
    ("sparse::seeking_finds_data_and_holes", HOLES),
    ("sparse::seeking_at_the_end_finds_nothing", HOLES),
    ("sparse::a_file_without_holes_ends_in_one", HOLES),
    ("sparse::a_file_that_is_one_hole_has_no_data", HOLES),
    ("sparse::seeking_never_passes_data_by", HOLES),
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
    ("rename::the_source_must_exist_whatever_is_asked_for", RENAME),
    ("rename::a_directory_does_not_trade_places_with_what_is_in_it", RENAME),
    ("rename::two_names_of_one_file_trade_places_for_nothing", RENAME),
    ("permissions::sticky_directories_protect_entries_from_exchanges", RENAME),
    ("permissions::holes_and_copies_need_write_permission", HOLES),
    ("attributes::times_keep_nanoseconds_and_the_past", TIMES),
    ("attributes::reading_leaves_a_fresh_access_time", TIMES),
    ("attributes::an_old_access_time_is_refreshed", TIMES),
];

const NO_ROOM: &str = "libnfs has 4 KiB for all of such a call, and a target may be that long";

/// What libnfs cannot say besides.
pub(crate) const LIBNFS: &[(&str, &str)] = &[
    ("tree::symbolic_links_keep_their_targets", NO_ROOM),
    ("tree::symbolic_link_targets_have_limits", NO_ROOM),
];

/// The suite by a client of a server that serves no other; holes are whole blocks.
pub(crate) fn run(client: &Client, block: u64, except: &[(&str, &str)]) {
    let profile = Profile {
        // Who decides is settled.
        chooses_dac: false,
        has_change: false,
        has_btime: false,
        late_writes: false,
        ..Profile::full(block)
    };
    let report = block_on(run_except(&profile, except, || client.clone()));
    println!("{report}");
    report.assert_passed();
    assert!(report.passed > 115, "{report}");
}

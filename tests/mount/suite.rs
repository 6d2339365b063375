//! The conformance suite through the kernel.
//!
//! What a mount cannot show, whatever is behind it, its [`Profile`] leaves out; in what
//! one file system differs from ours is listed next to it, with the reason.

use super::client::Client;
use super::support::Vault;
use rustix::fs::{StatFs, statfs};
use std::path::Path;
use vfs::Limits;
use vfs::conformance::{Profile, block_on, run_except};

/// Cases that a file system is not held to, and why not.
type Except = [(&'static str, &'static str)];

/// Runs every case that applies and is not excepted, all in one file system.
fn run(client: &Client, profile: &Profile, except: &Except) {
    let report = block_on(run_except(profile, except, || client.clone()));
    println!("{report}");
    report.assert_passed();
    assert!(report.passed > 150, "{report}");
}

/// What system calls can show of a file system that has everything.
fn through_the_kernel(client: &Client, hole_granularity: u64) -> Profile {
    Profile {
        by_inode: client.finds_by_number(),
        // The caller is checked by the kernel, and cannot choose to be trusted.
        chooses_dac: false,
        // O_EXCL is exclusive, but knows no verifier: a repetition fails.
        exclusive_create: false,
        // There is a cookie like that in the kernel, but statx(2) does not tell it.
        has_change: false,
        // The kernel writes what fits below the longest length.
        refuses_whole_writes: false,
        // The kernel says so of its own cache only.
        late_writes: false,
        ..Profile::full(hole_granularity)
    }
}

#[test]
fn the_engine_behind_fuse_passes_the_conformance_suite() {
    let vault = Vault::new();
    let mounted = vault.mount();
    let client = mounted.client();
    assert!(client.finds_by_number(), "the mount can be exported");
    let profile = Profile {
        // FUSE has a request for it, which is not answered yet.
        has_btime: false,
        ..through_the_kernel(&client, 64 << 10)
    };
    run(&client, &profile, &[]);
    drop(client);
    mounted.check();
    mounted.end();
}

const CLOCKS: &str = "the kernel stamps by a clock that ticks, behind the engine's";

/// What becomes different where the kernel gathers writes and keeps times itself.
const WRITE_BACK: &Except = &[
    ("tree::a_link_is_the_same_file", CLOCKS),
    ("tree::unlink_takes_one_name", CLOCKS),
    ("tree::changes_report_the_directory_around_them", CLOCKS),
    ("rename::times_of_all_concerned", CLOCKS),
    ("data::a_write_changes_the_times", CLOCKS),
    ("copies::a_copy_is_a_write_to_the_target", CLOCKS),
    ("handles::opening_cuts_when_told_to", CLOCKS),
    ("attributes::the_time_now_is_the_file_systems", CLOCKS),
    ("attributes::setting_anything_changes_the_change_time", CLOCKS),
    ("attributes::setting_the_same_length_is_a_change", CLOCKS),
    ("attributes::creation_sets_all_times", CLOCKS),
    ("attributes::change_times_rise", CLOCKS),
    ("xattrs::setting_changes_the_change_time", CLOCKS),
    ("attributes::reading_refreshes_a_stale_access_time", "the kernel has the page and reads it"),
    ("attributes::an_old_access_time_is_refreshed", "the kernel has the page and reads it"),
    ("data::files_have_a_longest_length", "what is too long is known when it is written back"),
];

#[test]
fn the_engine_behind_the_write_back_cache_keeps_data_and_names() {
    let vault = Vault::new();
    let mounted = vault.mount_with(|options| options.writeback_cache = true);
    let client = mounted.client();
    let profile = Profile {
        has_btime: false,
        slow: false,
        exact_times: false,
        // The kernel calls a whole file data.
        ..through_the_kernel(&client, 0)
    };
    run(&client, &profile, WRITE_BACK);
    drop(client);
    mounted.check();
    mounted.end();
}

/// The same client on a disk of the kernel's own: what holds there and here holds.
fn on_this_machine(dir: &Path, except: &Except, limits: Limits) {
    let dir = tempfile::tempdir_in(dir).unwrap();
    let client = Client::new(dir.path(), limits);
    // Two changes within a tick of the clock have the same time.
    let profile = Profile { exact_times: false, ..through_the_kernel(&client, 4096) };
    run(&client, &profile, except);
}

const EXT4: &Except = &[
    ("tree::inode_numbers_are_never_used_again", "numbers are places on the disk"),
    ("xattrs::sizes_have_limits", "attributes have one block of 4 KiB"),
    ("copies::a_copy_takes_holes_along", "a hole is copied as zeros, a tebibyte of them here"),
];

#[test]
fn a_local_disk_passes_the_conformance_suite() {
    let dir = std::env::temp_dir();
    let StatFs { f_type, .. } = statfs(&dir).unwrap();
    let limits = Limits {
        read_max: 1 << 20,
        write_max: 1 << 20,
        preferred: 4096,
        name_max: 255,
        link_max: 65_000,
        file_size_max: (16 << 40) - 4096,
    };
    match f_type {
        libc::EXT4_SUPER_MAGIC => on_this_machine(&dir, EXT4, limits),
        other => println!("skipped: in what a file system of type {other:#x} differs is not known"),
    }
}

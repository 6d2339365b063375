//! The suite over the model, under clocks and block sizes of every kind.

use super::{Profile, block_on, cases, run_all, run_except};
use crate::model::{ManualClock, ModelFs, ModelOptions};
use std::collections::HashSet;
use std::time::Duration;

fn model(block: u64, clock: &ManualClock) -> ModelFs {
    let options = ModelOptions { block, ..ModelOptions::default() };
    ModelFs::with_options(clock.ticking(), options)
}

#[test]
fn the_model_conforms() {
    let clock = ManualClock::new(1_800_000_000);
    let report = block_on(run_all(&Profile::full(4096), || model(4096, &clock)));
    report.assert_passed();
    assert!(report.skipped.is_empty(), "{:?}", report.skipped);
    assert!(report.passed >= 150, "{report}");
}

#[test]
fn the_model_conforms_whatever_its_blocks() {
    let clock = ManualClock::new(1_800_000_000);
    let profile = Profile { slow: false, ..Profile::full(131_072) };
    for block in [512, 131_072] {
        block_on(run_all(&profile, || model(block, &clock))).assert_passed();
    }
}

#[test]
fn the_model_conforms_when_the_clock_stands_still_or_goes_back() {
    let clock = ManualClock::new(1_800_000_000);
    let profile = Profile { slow: false, ..Profile::full(4096) };
    block_on(run_all(&profile, || ModelFs::new(clock.clock()))).assert_passed();
    let backwards = || {
        let hands = clock.clone();
        ModelFs::new(std::sync::Arc::new(move || {
            let now = hands.now();
            hands.set(crate::Timestamp { seconds: now.seconds - 1, ..now });
            now
        }))
    };
    clock.advance(Duration::from_secs(1_000_000));
    block_on(run_all(&profile, backwards)).assert_passed();
}

#[test]
fn one_file_system_serves_all_cases() {
    let clock = ManualClock::new(1_800_000_000);
    let fs = model(4096, &clock);
    let profile = Profile { slow: false, ..Profile::full(4096) };
    block_on(run_all(&profile, || fs.clone())).assert_passed();
}

#[test]
fn what_cannot_be_shown_is_skipped_and_said() {
    let clock = ManualClock::new(1_800_000_000);
    let profile = Profile {
        enforces_dac: false,
        chooses_dac: false,
        hole_granularity: 0,
        exclusive_create: false,
        by_inode: false,
        exact_times: false,
        has_change: false,
        has_btime: false,
        refuses_whole_writes: false,
        late_writes: false,
        slow: false,
    };
    let report = block_on(run_all(&profile, || model(4096, &clock)));
    report.assert_passed();
    assert!(report.skipped.contains(&"permissions::root_overrides".to_owned()));
    let chosen = "permissions::delegated_means_that_the_kernel_has_checked";
    assert!(report.skipped.contains(&chosen.to_owned()));
    assert!(report.skipped.contains(&"tree::an_exclusive_create_is_exclusive".to_owned()));
}

#[test]
fn every_case_has_a_name_of_its_own() {
    let mut seen = HashSet::new();
    for case in cases::<ModelFs>() {
        assert!(seen.insert((case.area, case.name)), "{}::{} is twice", case.area, case.name);
    }
}

#[test]
fn what_is_left_out_is_said_and_must_be_there() {
    let clock = ManualClock::new(1_800_000_000);
    let profile = Profile { slow: false, ..Profile::full(4096) };
    let run =
        |except: &[(&str, &str)]| block_on(run_except(&profile, except, || model(4096, &clock)));
    let report = run(&[("locks", "no locks"), ("names::any_bytes_are_a_name", "no bytes")]);
    report.assert_passed();
    let left_out = |name: &str| report.excepted.iter().any(|(excepted, _)| excepted == name);
    assert!(left_out("names::any_bytes_are_a_name"), "{report}");
    assert!(left_out("locks::flock_and_posix_locks_ignore_each_other"), "{report}");
    assert!(!left_out("names::names_that_look_alike_are_different"), "{report}");
    assert!(report.to_string().contains("names::any_bytes_are_a_name: no bytes"), "{report}");
    let report = run(&[("lock", "cut short"), ("names::no_such_name", "gone")]);
    let failed: Vec<_> = report.failed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(failed, ["lock", "names::no_such_name"]);
}

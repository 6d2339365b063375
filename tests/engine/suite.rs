//! The conformance suite, and random operations beside the model.

use super::support::{World, run};
use std::sync::Arc;
use vfs::Dac;
use vfs::conformance::{Profile, run_all};
use vfs::model::ModelFs;
use vfs::model::ops::{Op, Session, apply, dump, numbers};

#[test]
fn the_engine_passes_the_conformance_suite() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        let report = run_all(&Profile::full(64 << 10), || engine.clone()).await;
        println!("{report}");
        report.assert_passed();
        assert!(report.passed > 80, "{report}");
    });
}

/// Runs random operations on engine and model and compares every outcome, and the
/// whole tree after each crash.
async fn beside_the_model(seed: u64, rounds: u32) {
    let world = World::new().await;
    let mut engine = world.open("m0").await;
    let clock_env = world.env.clone();
    let model = ModelFs::new(Arc::new(move || clock_env.now()));
    let mut next = numbers(seed);
    let mut log = Vec::new();
    for round in 0..rounds {
        let (mut ours, mut theirs) =
            (Session::new(Dac::Delegated, false), Session::new(Dac::Delegated, false));
        for _ in 0..60 {
            let op = Op::random(&mut next);
            log.push(format!("{op:?}"));
            let a = apply(&engine, &mut ours, &op).await;
            let b = apply(&model, &mut theirs, &op).await;
            let last = log.len().saturating_sub(3);
            assert_eq!(a, b, "seed {seed}, round {round}, after\n{}", log[last..].join("\n"));
        }
        ours.close_all();
        theirs.close_all();
        match round % 3 {
            0 => engine.commit().await.unwrap(),
            1 => engine.sync().await.unwrap(),
            _ => {
                engine.commit().await.unwrap();
                engine.sync().await.unwrap();
            }
        }
        // What a kill leaves is the files as they are; the next life goes on.
        let (from, to) = (format!("m{round}"), format!("m{}", round + 1));
        engine = world.crash(&from, &to).await;
        let (a, b) = (dump(&engine, false).await.unwrap(), dump(&model, false).await.unwrap());
        assert_eq!(a, b, "seed {seed}, after the crash of round {round}");
    }
    // A machine that has nothing but the store and the password sees the same.
    engine.sync().await.unwrap();
    let digest = engine.state_digest().unwrap();
    let fresh = world.open(&format!("fresh{seed}")).await;
    assert_eq!(fresh.state_digest().unwrap(), digest, "seed {seed}, on a new machine");
    let (a, b) = (dump(&fresh, false).await.unwrap(), dump(&model, false).await.unwrap());
    assert_eq!(a, b, "seed {seed}, on a new machine");
    let report = engine.fsck(&tgcryptfs::engine::Silent).await.unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    engine.close().await.unwrap();
}

#[test]
fn random_operations_agree_with_the_model_through_crashes_and_on_a_new_machine() {
    for seed in 1..=12 {
        run(beside_the_model(seed, 5));
    }
}

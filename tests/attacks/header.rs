//! S08 to S12 and S34: the vault header, which is read before there is a key.

use super::vault::{World, credential, run};
use std::process::Command;
use std::time::Duration;
use tgcryptfs::crypto::kdf::Argon2Params;
use tgcryptfs::engine::{Engine, Error, Silent, newest_header, unlock};
use tgcryptfs::store::{ObjectName, PutMode};
use tgcryptfs::vault::{Credential, Passphrase, SlotKind, VaultError};

/// Where the slots begin, and where in a slot its parameters lie (`docs/FORMAT.md` §3).
const SLOTS: usize = 66;
const COUNT: usize = 65;
const SLOT_LEN: usize = 160;
const PARAMETERS: usize = 10;
/// Far less than one derivation takes, far more than reading a header.
const AT_ONCE: Duration = Duration::from_millis(10);
/// Less than half of what the cheapest derivation takes that anybody asks for here.
const GROWN_MAX_KIB: u64 = 8 << 10;
/// Says that a process is there for one of these tests alone.
const ALONE: &str = "TGCRYPTFS_TEST_ALONE";

async fn header(world: &World) -> Vec<u8> {
    world.store.get(&ObjectName::vault(1), None).await.unwrap().to_vec()
}

async fn put_header(world: &World, generation: u64, bytes: &[u8]) {
    let body = bytes.to_vec().into();
    world.store.put(&ObjectName::vault(generation), body, PutMode::Overwrite).await.unwrap();
}

fn with_parameters(header: &[u8], parameters: [u32; 3]) -> Vec<u8> {
    let mut changed = header.to_vec();
    let bytes: Vec<u8> = parameters.iter().flat_map(|value| value.to_le_bytes()).collect();
    changed[SLOTS + PARAMETERS..][..12].copy_from_slice(&bytes);
    changed
}

/// Opens the vault as a machine that knows nothing; says how long it took.
async fn open(world: &World, machine: &str) -> (Result<Engine, Error>, Duration) {
    let started = world.env.monotonic();
    let result = world.try_open(machine).await;
    (result, world.env.monotonic() - started)
}

/// What this process had in memory at most since [`forget_peak`], KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Sets the kernel's mark of the most back to what is in memory now, and says what that is.
fn forget_peak() -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    peak()
}

/// In a process of its own, since the tests beside this one derive keys.
#[test]
fn s08_hostile_argon2_parameters_are_refused_at_once() {
    let part = format!("{}::hostile_parameters_alone", module_path!().split_once("::").unwrap().1);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &part, "--ignored", "--nocapture"])
        .env(ALONE, "1")
        // Whatever is large and released is out of memory, and not used again.
        .env("MALLOC_MMAP_THRESHOLD_", "1048576")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{failed}");
    assert!(said.contains("1 passed"), "the part was not run: {said}\n{failed}");
}

/// Not a test of its own.
#[test]
#[ignore = "a part of s08_hostile_argon2_parameters_are_refused_at_once"]
fn hostile_parameters_alone() {
    if std::env::var(ALONE).is_err() {
        return;
    }
    run(async {
        let world = World::new().await;
        let good = header(&world).await;
        let max = u32::MAX;
        let hostile = [
            [max, max, max],
            [max, 1, 1],
            [19 << 10, max, 1],
            [19 << 10, 2, 0],
            [19 << 10, 2, max],
            [64, 2, 16],
            [0, 0, 0],
            [(1 << 20) + 1, 2, 1],
            [19 << 10, 17, 1],
            [19 << 10, 2, 17],
        ];
        for parameters in hostile {
            put_header(&world, 1, &with_parameters(&good, parameters)).await;
            let before = forget_peak();
            let mut fastest = Duration::MAX;
            for attempt in 0..5 {
                let (result, took) = open(&world, &format!("fresh{attempt}")).await;
                let error = result.unwrap_err();
                let is_bound = matches!(&error, Error::Vault(VaultError::KdfOutOfBounds(_)));
                assert!(is_bound, "{parameters:?}: {error:?}");
                fastest = fastest.min(took);
            }
            assert!(fastest < AT_ONCE, "{parameters:?} took {fastest:?}");
            let grown = peak().saturating_sub(before);
            assert!(grown < GROWN_MAX_KIB, "{parameters:?}: {grown} KiB more");
        }
        // What is within the bounds is derived, and that would be seen.
        put_header(&world, 1, &good).await;
        let before = forget_peak();
        open(&world, "fresh").await.0.unwrap();
        let grown = peak().saturating_sub(before);
        assert!(grown > GROWN_MAX_KIB, "a derivation took {grown} KiB");
    });
}

#[test]
fn s09_weakened_derivation_opens_nothing() {
    run(async {
        let world = World::new().await;
        let good = header(&world).await;
        // Below the bounds: not even tried.
        for weak in [[8, 1, 1], [8191, 1, 1], [0, 2, 1]] {
            put_header(&world, 1, &with_parameters(&good, weak)).await;
            let error = open(&world, "fresh").await.0.unwrap_err();
            assert!(matches!(error, Error::Vault(VaultError::KdfOutOfBounds(_))), "{error:?}");
        }
        // Within them: the right passphrase does not open the slot.
        for weak in [[8 << 10, 1, 1], [19 << 10, 1, 1], [19 << 10, 2, 2]] {
            put_header(&world, 1, &with_parameters(&good, weak)).await;
            let error = open(&world, "fresh").await.0.unwrap_err();
            assert!(matches!(error, Error::Vault(VaultError::BadPassword)), "{error:?}");
        }
        put_header(&world, 1, &good).await;
        open(&world, "fresh").await.0.unwrap();
    });
}

#[test]
fn s10_a_vault_of_the_attacker_with_the_same_passphrase() {
    run(async {
        let world = World::new().await;
        drop(world.open("a").await);
        let theirs = World::new().await;
        for generation in [1, 7, u64::MAX] {
            put_header(&world, generation, &header(&theirs).await).await;
            let mut fastest = Duration::MAX;
            for _ in 0..5 {
                let (result, took) = open(&world, "a").await;
                let error = result.unwrap_err();
                let is_mismatch = matches!(error, Error::Vault(VaultError::VaultMismatch { .. }));
                assert!(is_mismatch, "{error:?}");
                fastest = fastest.min(took);
            }
            // Before anything is done with the passphrase.
            assert!(fastest < AT_ONCE, "{fastest:?}");
        }
    });
}

/// A header with so many copies of the first slot, each with an id of its own, so that
/// none opens.
fn crowd(good: &[u8], count: usize) -> Vec<u8> {
    let mut bytes = good[..SLOTS].to_vec();
    bytes[COUNT] = count.min(255) as u8;
    for number in 0..count {
        let mut slot = good[SLOTS..][..SLOT_LEN].to_vec();
        slot[..8].copy_from_slice(&(number as u64).to_le_bytes());
        bytes.extend(slot);
    }
    bytes.extend(&good[good.len() - 32..]);
    bytes
}

#[test]
fn s11_lies_about_slots_cost_nothing() {
    run(async {
        let world = World::new().await;
        let good = header(&world).await;
        let slot = &good[SLOTS..][..SLOT_LEN];
        let crowd = |count: usize| crowd(&good, count);
        let lying = |count: u8| {
            let mut bytes = good.clone();
            bytes[COUNT] = count;
            bytes
        };
        let twice = [&good[..SLOTS], slot, slot, &good[good.len() - 32..]].concat();
        let headers =
            [lying(0), lying(1), lying(3), lying(255), crowd(17), crowd(255), crowd(10_000), twice];
        for bytes in headers {
            put_header(&world, 1, &bytes).await;
            let mut fastest = Duration::MAX;
            for attempt in 0..5 {
                let (result, took) = open(&world, &format!("fresh{attempt}")).await;
                let error = result.unwrap_err();
                let is_parsed =
                    matches!(error, Error::Vault(VaultError::Corrupt(_) | VaultError::NotAVault));
                assert!(is_parsed, "{} bytes: {error:?}", bytes.len());
                fastest = fastest.min(took);
            }
            assert!(fastest < AT_ONCE, "{} bytes took {fastest:?}", bytes.len());
        }
    });
}

/// The most slots that there can be: each is tried once and none opens. What one of them
/// asks for is bounded for all, before the first is tried.
#[test]
fn s11_every_slot_costs_one_derivation_within_the_bounds() {
    run(async {
        let world = World::new().await;
        let good = header(&world).await;
        let mut fastest = [Duration::MAX; 2];
        // By turns, so that whatever else runs here slows both.
        for _ in 0..4 {
            for (count, fastest) in [1, 16].into_iter().zip(&mut fastest) {
                put_header(&world, 1, &crowd(&good, count)).await;
                let (result, took) = open(&world, "fresh").await;
                let error = result.unwrap_err();
                assert!(matches!(error, Error::Vault(VaultError::BadPassword)), "{error:?}");
                *fastest = (*fastest).min(took);
            }
        }
        let ratio = fastest[1].as_secs_f64() / fastest[0].as_secs_f64();
        assert!((6.0..40.0).contains(&ratio), "sixteen slots take {ratio} times as long");
        // The last one asks for too much: nothing is derived for the others either.
        let mut bytes = crowd(&good, 16);
        let parameters: Vec<u8> =
            [(1_u32 << 20) + 1, 16, 16].iter().flat_map(|value| value.to_le_bytes()).collect();
        bytes[SLOTS + 15 * SLOT_LEN + PARAMETERS..][..12].copy_from_slice(&parameters);
        put_header(&world, 1, &bytes).await;
        let mut fastest = Duration::MAX;
        for _ in 0..5 {
            let (result, took) = open(&world, "fresh").await;
            let error = result.unwrap_err();
            assert!(matches!(error, Error::Vault(VaultError::KdfOutOfBounds(_))), "{error:?}");
            fastest = fastest.min(took);
        }
        assert!(fastest < AT_ONCE, "{fastest:?}");
    });
}

#[test]
fn s12_an_old_header_after_the_password_was_changed() {
    run(async {
        let world = World::new().await;
        drop(world.open("a").await);
        let old = newest_header(&*world.store).await.unwrap().unwrap();
        let master = unlock(&old, &credential()).unwrap();
        let new = Credential::Passphrase(Passphrase::new("battery staple").unwrap());
        let kdf = Argon2Params::new(19 << 10, 2, 1).unwrap();
        let slot = old.slots().find(|slot| slot.kind == SlotKind::Passphrase).unwrap().id;
        let next = old.replace_slot(&world.env, &master, slot, &new, kdf).unwrap();
        put_header(&world, 2, &next.encode()).await;
        let open = async |machine: &str, with: &Credential| {
            let settings = world.settings(machine);
            let store = world.store.clone();
            Engine::open(store, with, settings, world.env.clone(), &Silent).await
        };
        // The old password is worth nothing, the new one opens, and is remembered.
        let error = open("a", &credential()).await.unwrap_err();
        assert!(matches!(error, Error::Vault(VaultError::BadPassword)), "{error:?}");
        drop(open("a", &new).await.unwrap());
        // Put back in the place of the new one, under its name, or under a later one.
        for place in [2, 3, u64::MAX] {
            put_header(&world, place, &old.encode()).await;
            for with in [&credential(), &new] {
                let error = open("a", with).await.unwrap_err();
                let is_rollback =
                    matches!(error, Error::Vault(VaultError::Rollback { found: 1, pinned: 2 }));
                assert!(is_rollback, "{error:?}");
            }
        }
        // Whoever never saw the new one cannot know, and gets in.
        drop(open("fresh", &credential()).await.unwrap());
    });
}

#[test]
fn s34_a_wrong_passphrase_and_a_tampered_slot_look_and_take_the_same() {
    run(async {
        let world = World::new().await;
        let good = header(&world).await;
        let wrong = Credential::Passphrase(Passphrase::new("wrong horse").unwrap());
        let attempt = async |with: &Credential| {
            let settings = world.settings("fresh");
            let started = world.env.monotonic();
            let (store, env) = (world.store.clone(), world.env.clone());
            let error = Engine::open(store, with, settings, env, &Silent).await.unwrap_err();
            assert!(matches!(error, Error::Vault(VaultError::BadPassword)), "{error:?}");
            (error.to_string(), world.env.monotonic() - started)
        };
        // Salt, commitment, nonce, ciphertext and tag, first and last bytes.
        for at in [22, 37, 46, 77, 78, 89, 90, 121, 122, 137] {
            let mut tampered = good.clone();
            tampered[SLOTS + at] ^= 1;
            let mut fastest = [Duration::MAX; 2];
            // By turns, so that whatever else runs here slows both.
            for _ in 0..8 {
                put_header(&world, 1, &good).await;
                let (text, took) = attempt(&wrong).await;
                put_header(&world, 1, &tampered).await;
                let (same, also) = attempt(&credential()).await;
                assert_eq!(same, text, "byte {at} of the slot");
                fastest = [fastest[0].min(took), fastest[1].min(also)];
            }
            let ratio = fastest[1].as_secs_f64() / fastest[0].as_secs_f64();
            assert!((0.4..2.5).contains(&ratio), "byte {at}: {fastest:?}");
        }
    });
}

//! S20: a store that knows the files, and looks for them in what it was given.

use super::adversary::{Insider, Kind, Recorder, Sample, add_key_file, world_on};
use super::chance::{chance_max, chi_squared};
use super::secrets::Secrets;
use super::vault::{World, cx, name, noise, read, remove, run, write};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use tgcryptfs::crypto::envelope::padme;
use tgcryptfs::engine::Engine;
use tgcryptfs::store::ObjectName;
use vfs::Stability::{Buffered, Journaled};
use vfs::{At, IfExists, Ino, Make, SetAttr, Vfs, XattrMode};

const BLOCK: usize = super::adversary::BLOCK;

/// Entries of one directory: a number that nothing else has.
const RECORDS: usize = 1237;

/// Lengths of files with holes, which fill six of the eight bytes of a number: among
/// other structures, too, nobody finds such by chance.
const LONG: [u64; 2] = [0xa731_9c4b_17d5, 0xb845_ce92_6ba7];

/// Names, words and contents that a known tree has.
struct Known {
    names: Vec<String>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Known {
    fn new() -> Self {
        let letter = "Dear Mr Okonkwo, the merger closes on Thursday. Tell nobody. ";
        let files = [
            ("Kontoauszug-2031-geheim.txt", letter.repeat(3).into_bytes()),
            ("quarterly-figures.csv", letter.repeat(4000).into_bytes()),
            ("leaked-film.mkv", noise(5 * BLOCK + 1234, 1)),
            ("a-copy-of-the-film.mkv", noise(5 * BLOCK + 1234, 1)),
            ("Müller–Überweisung.pdf", noise(9000, 2)),
            ("zeros-only.img", vec![0; 300_000]),
        ];
        let files = files.map(|(name, data)| (name.to_owned(), data)).into();
        let more =
            ["Arztbriefe-Onkologie", "shortcut-to-film", "user.classification", "top-secret"];
        let words = ["Okonkwo", "merger closes", "Thursday. Tell", "Patientenakte"];
        let names = more.into_iter().chain(words).map(str::to_owned).collect();
        Self { names, files }
    }

    fn secrets(&self) -> Secrets {
        let secrets = self.files.iter().fold(Secrets::default(), |secrets, (name, data)| {
            secrets.text(name).content(data, BLOCK, name)
        });
        let names = self.names.iter().filter(|name| name.len() >= 8);
        names.fold(secrets, |secrets, name| secrets.text(name))
    }

    /// How long each file is, how many entries each directory has, and how many inodes
    /// there are.
    fn counts(&self) -> Vec<u64> {
        let mut counts: Vec<u64> = self.files.values().map(|data| data.len() as u64).collect();
        counts.extend(LONG);
        // Two directories beside the files; the root and a link are inodes, too.
        let in_root = self.files.len() + LONG.len() + 2;
        counts.extend([RECORDS, in_root, 2 + in_root + RECORDS].map(|count| count as u64));
        counts
    }

    /// All of them as numbers of eight bytes. Only among bytes that are all random nobody
    /// finds such by chance.
    fn numbers(&self) -> Secrets {
        self.counts().into_iter().fold(Secrets::default(), Secrets::number)
    }

    async fn write(&self, engine: &Engine) {
        for (file, data) in &self.files {
            write(engine, file, data.clone(), Buffered).await.unwrap();
        }
        for (number, len) in LONG.into_iter().enumerate() {
            let file = format!("disk-of-the-server-{number}.img");
            write(engine, &file, noise(3000, 50 + number as u64), Buffered).await.unwrap();
            let ino = engine.lookup(cx(), Ino::ROOT, name(&file)).await.unwrap().attr.ino;
            let longer = SetAttr { size: Some(len), ..SetAttr::default() };
            engine.setattr(cx(), At::Ino(ino), &longer).await.unwrap();
        }
        let attr = SetAttr::default();
        let dir = name("Arztbriefe-Onkologie");
        let dir = engine.make(cx(), Ino::ROOT, dir, Make::Directory, &attr).await.unwrap();
        let target = Make::Symlink { target: b"../leaked-film.mkv" };
        let ino = dir.entry.attr.ino;
        engine.make(cx(), ino, name("shortcut-to-film"), target, &attr).await.unwrap();
        let dir = Make::Directory;
        let dir = engine.make(cx(), Ino::ROOT, name("records"), dir, &attr).await.unwrap();
        for number in 0..RECORDS {
            let (dir, file) = (dir.entry.attr.ino, format!("Patientenakte-{number}"));
            let made = engine.create(cx(), dir, name(&file), &attr, IfExists::Fail, None).await;
            made.unwrap();
        }
        let (attribute, value) = (b"user.classification", Some("top-secret".into()));
        engine.set_xattr(cx(), ino, attribute, value, XattrMode::Either).await.unwrap();
    }
}

/// A vault with the known tree, everything that its store ever received, and the machine.
async fn known_vault() -> (World, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let world = world_on(recorder.clone()).await;
    add_key_file(&world).await;
    let often = |settings: &mut tgcryptfs::engine::Settings| settings.checkpoint_len_min = 1;
    let engine = world.open_with("a", often).await.unwrap();
    let known = Known::new();
    known.write(&engine).await;
    engine.sync().await.unwrap();
    write(&engine, "Kontoauszug-2031-geheim.txt", noise(2000, 7), Buffered).await.unwrap();
    engine.close().await.unwrap();
    (world, recorder)
}

#[test]
fn s20_the_store_never_receives_a_name_a_word_or_a_hash() {
    run(async {
        let (world, recorder) = known_vault().await;
        let (secrets, numbers) = (Known::new().secrets(), Known::new().numbers());
        let received = recorder.everything();
        assert!(received.len() > 10);
        for (object, body) in &received {
            assert_eq!(secrets.found_in(body), None, "in {object}");
            // The header's layout is public, and numbers of its own are in it.
            if object.vault_generation().is_none() {
                assert_eq!(numbers.found_in(body), None, "in {object}");
            }
            assert_eq!(secrets.found_in(object.as_str().as_bytes()), None);
        }
        // The same of what lies on the machine: database with its log and free pages,
        // packs, cache, identity, anchors. Once as it is, once with the cache filled.
        let reader = world.open("b").await;
        for file in Known::new().files.keys() {
            read(&reader, file).await.unwrap();
        }
        let engine = world.open("a").await;
        for file in Known::new().files.keys() {
            remove(&engine, file).await.unwrap();
            write(&engine, file, Known::new().files[file].clone(), Journaled).await.unwrap();
        }
        let machines = secrets.are_not_below(world.dir.path());
        assert!(machines > 1_000_000, "{machines}");
        // SQLite keeps a number as long as these in eight bytes, too.
        LONG.into_iter().fold(Secrets::default(), Secrets::number).are_not_below(world.dir.path());
    });
}

/// The counts that are in what a store received besides headers and packs, in four bytes
/// or in digits.
async fn short_numbers_in(recorder: &Recorder) -> BTreeSet<u64> {
    let insider = Insider::look_into(recorder).await;
    let mut spellings: HashMap<[u8; 4], Vec<(Vec<u8>, u64)>> = HashMap::new();
    for count in Known::new().counts() {
        let short = count as u32;
        let digits = count.to_string().into_bytes();
        for spelling in [short.to_le_bytes().to_vec(), short.to_be_bytes().to_vec(), digits] {
            // What is shorter is everywhere.
            if let Some(first) = spelling.first_chunk() {
                spellings.entry(*first).or_default().push((spelling, count));
            }
        }
    }
    let mut found = BTreeSet::new();
    for (object, body) in recorder.everything() {
        let kind = insider.kinds.get(&object);
        if matches!(kind, Some(Kind::Header | Kind::NodePack | Kind::DataPack)) {
            continue;
        }
        for (at, window) in body.windows(4).enumerate() {
            let window: [u8; 4] = window.try_into().unwrap();
            let here = spellings.get(&window).into_iter().flatten();
            let here = here.filter(|(spelling, _)| body[at..].starts_with(spelling));
            found.extend(here.map(|(_, count)| *count));
        }
    }
    found
}

/// One in some thousand vaults has one of them by chance, and none of millions has the
/// same one as another.
#[test]
fn s20_counts_are_in_no_object_in_four_bytes_or_digits() {
    run(async {
        let ((_, one), (_, other)) = (known_vault().await, known_vault().await);
        let (one, other) = (short_numbers_in(&one).await, short_numbers_in(&other).await);
        let in_both: Vec<_> = one.intersection(&other).collect();
        assert!(in_both.is_empty(), "{in_both:?}");
    });
}

/// Every length that the format has but the header's.
fn is_padded(len: usize, kind: Option<Kind>) -> bool {
    let sealed = |len: usize| len >= 1024 + 92 && padme(len - 92) == len - 92;
    match kind {
        Some(Kind::Header) => len <= 4096,
        Some(Kind::NodePack | Kind::DataPack) => padme(len) == len,
        Some(Kind::Membership) => {
            (1..=16).any(|steps| len.checked_sub(32 + 124 + steps * 1280).is_some_and(sealed))
        }
        Some(_) => sealed(len),
        // Removed since; membership records never are.
        None => padme(len) == len || sealed(len),
    }
}

/// Everything that a store ever received, also what was removed since.
#[test]
fn s20_lengths_come_from_the_padded_set_and_bytes_are_uniform() {
    let sample = run(Sample::new());
    let (_, known) = run(known_vault());
    for recorder in [&sample.recorder, &known] {
        let kinds = run(Insider::look_into(&**recorder)).kinds;
        let mut pooled = [0; 256];
        for (object, body) in recorder.everything() {
            let kind = kinds.get(&object).copied();
            if object.vault_generation().is_some() {
                assert!(is_padded(body.len(), Some(Kind::Header)), "a header");
                continue;
            }
            assert!(is_padded(body.len(), kind), "{kind:?} of {} bytes", body.len());
            let mut counts = [0; 256];
            for byte in &body {
                counts[usize::from(*byte)] += 1;
                pooled[usize::from(*byte)] += 1;
            }
            let found = chi_squared(&counts);
            assert!(found < chance_max(256), "{kind:?} {object}: {found}");
            // Nor does it compress.
            let packed = zstd::bulk::compress(&body, 19).unwrap();
            assert!(packed.len() >= body.len(), "{kind:?} {object} has structure");
        }
        let found = chi_squared(&pooled);
        assert!(found < chance_max(256), "all objects together: {found}");
    }
}

/// Names of a long history: every digit, and every pair of neighbours, as chance has it.
#[test]
fn s20_names_are_uniform() {
    run(async {
        let recorder = Arc::new(Recorder::default());
        let world = world_on(recorder.clone()).await;
        let small = |settings: &mut tgcryptfs::engine::Settings| settings.checkpoint_len_min = 1;
        let engine = world.open_with("a", small).await.unwrap();
        for number in 0..60 {
            let file = format!("file{number}");
            write(&engine, &file, noise(5000, number), Buffered).await.unwrap();
            engine.sync().await.unwrap();
        }
        let names: BTreeSet<ObjectName> =
            recorder.everything().into_iter().map(|(name, _)| name).collect();
        let names: Vec<_> =
            names.into_iter().filter(|name| name.vault_generation().is_none()).collect();
        assert!(names.len() > 150, "{}", names.len());
        let mut digits = [0; 16];
        let mut bits = [0_u32; 128];
        let mut prefixes = HashSet::new();
        for name in &names {
            let text = name.as_str();
            text.chars().for_each(|digit| digits[digit.to_digit(16).unwrap() as usize] += 1);
            let value = u128::from_str_radix(text, 16).unwrap();
            (0..128).for_each(|bit| bits[bit] += (value >> bit & 1) as u32);
            assert!(prefixes.insert(text[..12].to_owned()), "{text} begins like another");
            assert!(prefixes.insert(text[20..].to_owned()), "{text} ends like another");
        }
        assert!(chi_squared(&digits) < chance_max(16), "{digits:?}");
        let half = names.len() as f64 / 2.0;
        let deviation = (names.len() as f64).sqrt() / 2.0;
        let is_fair = |ones: &u32| (f64::from(*ones) - half).abs() < 7.0 * deviation;
        assert!(bits.iter().all(is_fair), "{bits:?}");
    });
}

/// What a header has that is random or follows from what is: ids, the owner's key, of
/// each slot its id, salt, commitment, nonce, ciphertext and tag, and the MAC
/// (`docs/FORMAT.md` §3).
fn random_fields(header: &[u8]) -> Vec<Vec<u8>> {
    let (slots, mac) = header[66..].split_last_chunk::<32>().unwrap();
    assert_eq!(slots.len(), usize::from(header[65]) * 160);
    let mut fields = vec![&header[9..25], &header[33..65], &mac[..]];
    for slot in slots.chunks(160) {
        let places = [0..8, 22..38, 46..78, 78..90, 90..122, 122..138];
        fields.extend(places.map(|place| &slot[place]));
    }
    fields.into_iter().map(<[u8]>::to_vec).collect()
}

/// The same tree under the same passphrase and key file.
#[test]
fn s20_two_vaults_with_the_same_files_share_nothing() {
    run(async {
        let ((_, one), (_, other)) = (known_vault().await, known_vault().await);
        let is_secret = |(name, _): &(ObjectName, bytes::Bytes)| name.vault_generation().is_none();
        let mut windows = HashSet::new();
        let mut names = HashSet::new();
        for (name, body) in one.everything().into_iter().filter(is_secret) {
            names.insert(name);
            windows.extend(body.windows(16).map(|w| <[u8; 16]>::try_from(w).unwrap()));
        }
        for (name, body) in other.everything().into_iter().filter(is_secret) {
            assert!(!names.contains(&name), "{name} is in both");
            assert!(!body.windows(16).any(|window| windows.contains(window)), "{name}");
        }
        let fields_of = |recorder: &Recorder| {
            let headers = recorder.everything().into_iter().filter(|object| !is_secret(object));
            headers.flat_map(|(_, header)| random_fields(&header)).collect::<HashSet<_>>()
        };
        let (one, other) = (fields_of(&one), fields_of(&other));
        // Vault, owner, two MACs; passphrase, recovery code and key file with six fields each.
        assert_eq!((one.len(), other.len()), (22, 22));
        assert!(one.is_disjoint(&other), "{:?}", one.intersection(&other));
    });
}

/// The lengths of all objects after so many files of so many bytes in all.
fn lens_of(files: u64, len: usize) -> Vec<usize> {
    run(async {
        let recorder = Arc::new(Recorder::default());
        let world = world_on(recorder.clone()).await;
        let engine = world.open("a").await;
        for number in 0..files {
            let file = format!("{number:03}");
            write(&engine, &file, noise(len / files as usize, number), Buffered).await.unwrap();
        }
        engine.close().await.unwrap();
        let mut lens: Vec<_> = recorder.everything().iter().map(|(_, body)| body.len()).collect();
        lens.sort_unstable();
        lens
    })
}

/// One file or three hundred: as many objects.
#[test]
fn s20_the_number_of_objects_does_not_tell_the_number_of_files() {
    assert_eq!(lens_of(1, 1_500_000).len(), lens_of(300, 1_500_000).len());
}

/// A file that is some bytes longer: objects of the same lengths.
#[test]
fn s20_the_lengths_of_objects_do_not_tell_the_exact_length_of_a_file() {
    assert_eq!(lens_of(1, 1_500_000), lens_of(1, 1_500_700));
    assert_ne!(lens_of(1, 1_500_000), lens_of(1, 1_900_000), "of quite another it does");
}

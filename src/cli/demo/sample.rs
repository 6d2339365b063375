//! The files the tour copies, and the proof that they came back.

use super::search::Needle;
use crate::cli::exit::{Code, Failure};
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The tour is short: it takes at most so many files and bytes.
const FILES_MAX: usize = 2000;
const BYTES_MAX: u64 = 64 << 20;
/// Directories that hold what was made from others.
const SKIPPED: [&str; 2] = ["target", ".git"];
/// Files whose contents are searched for in the store, and how much of each.
const SEARCHED_FILES_MAX: usize = 200;
const SEARCHED_LEN: usize = 32;

/// The directory the tour copies when none is named.
pub(super) fn find_source() -> Result<PathBuf> {
    let program = std::env::current_exe().unwrap_or_default();
    let project = program.ancestors().find(|dir| dir.join("src/cli/demo/sample.rs").exists());
    let registry =
        super::super::context::surroundings().home.map(|home| home.join(".cargo/registry/src"));
    [project.map(Path::to_owned), Some("/usr/share/doc".into()), registry]
        .into_iter()
        .flatten()
        .find(|dir| Sample::collect(dir).is_ok())
        .ok_or_else(|| Failure::new(Code::Usage, "name some files to copy with --from").into())
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) file_count: usize,
    pub(super) link_count: usize,
    pub(super) bytes: u64,
}

impl Compared {
    pub(super) fn add(&mut self, other: &Self) {
        self.file_count += other.file_count;
        self.link_count += other.link_count;
        self.bytes += other.bytes;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
    Link,
}

/// Some of the files below a directory.
pub(super) struct Sample {
    root: PathBuf,
    /// Relative paths; a directory comes before what is in it.
    entries: Vec<(PathBuf, Kind)>,
    bytes: u64,
}

impl Sample {
    /// Chooses files below `root`, in the order of their names, up to the limits.
    pub(super) fn collect(root: &Path) -> Result<Self> {
        let mut sample = Self { root: root.to_owned(), entries: Vec::new(), bytes: 0 };
        sample.collect_below(Path::new(""))?;
        if sample.file_count() == 0 {
            let message = format!("name some files with --from: {} has none", root.display());
            return Err(Failure::new(Code::Usage, message).into());
        }
        Ok(sample)
    }

    /// A sample of one file.
    pub(super) fn of_file(path: &Path) -> Result<Self> {
        let (root, name) = path.parent().zip(path.file_name()).context("a file has a name")?;
        let bytes = fs::metadata(path)?.len();
        Ok(Self { root: root.to_owned(), entries: vec![(name.into(), Kind::File)], bytes })
    }

    fn collect_below(&mut self, relative: &Path) -> Result<()> {
        let listed = fs::read_dir(self.root.join(relative));
        let mut names: Vec<_> = match listed {
            Ok(entries) => entries.filter_map(|e| Some(e.ok()?.file_name())).collect(),
            // What this user cannot read is not part of the tour.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            Err(error) => return Err(error).context(format!("cannot list {}", relative.display())),
        };
        names.sort();
        for name in names {
            let path = relative.join(&name);
            let Ok(data) = fs::symlink_metadata(self.root.join(&path)) else { continue };
            let is_skipped = SKIPPED.iter().any(|skipped| name == *skipped);
            if data.is_dir() && !is_skipped {
                self.entries.push((path.clone(), Kind::Directory));
                self.collect_below(&path)?;
            } else if data.is_symlink() {
                self.entries.push((path, Kind::Link));
            } else if data.is_file()
                && self.has_room(data.len())
                && File::open(self.root.join(&path)).is_ok()
            {
                self.bytes += data.len();
                self.entries.push((path, Kind::File));
            }
        }
        Ok(())
    }

    fn has_room(&self, size: u64) -> bool {
        self.entries.len() < FILES_MAX && self.bytes + size <= BYTES_MAX
    }

    pub(super) fn file_count(&self) -> usize {
        self.entries.iter().filter(|(_, kind)| *kind == Kind::File).count()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Copies everything below a directory that is not there yet.
    pub(super) fn copy_to(&self, target: &Path) -> Result<()> {
        fs::create_dir(target).with_context(|| format!("cannot make {}", target.display()))?;
        for (path, kind) in &self.entries {
            let (from, to) = (self.root.join(path), target.join(path));
            let copied = match kind {
                Kind::Directory => fs::create_dir(&to),
                Kind::File => fs::copy(&from, &to).map(|_| ()),
                Kind::Link => {
                    fs::read_link(&from).and_then(|link| std::os::unix::fs::symlink(link, &to))
                }
            };
            copied.with_context(|| format!("cannot copy {}", from.display()))?;
        }
        Ok(())
    }

    /// Compares every file with its copy below `copy`, byte for byte, and fails at the
    /// first difference.
    pub(super) fn compare(&self, copy: &Path) -> Result<Compared> {
        let mut compared = Compared::default();
        for (path, kind) in &self.entries {
            let (from, to) = (self.root.join(path), copy.join(path));
            let is_same = match kind {
                Kind::Directory => fs::symlink_metadata(&to).is_ok_and(|data| data.is_dir()),
                Kind::Link => {
                    compared.link_count += 1;
                    fs::read_link(&from)? == fs::read_link(&to).unwrap_or_default()
                }
                Kind::File => {
                    compared.file_count += 1;
                    compared.bytes += fs::metadata(&from)?.len();
                    same_file(&from, &to)
                        .with_context(|| format!("cannot read {}", to.display()))?
                }
            };
            if !is_same {
                let message =
                    format!("do not trust this build: {} came back changed", to.display());
                return Err(Failure::new(Code::Corrupt, message).into());
            }
        }
        Ok(compared)
    }

    /// File names and pieces of contents that nobody may find in the store.
    pub(super) fn needles(&self) -> Result<Vec<Needle>> {
        let mut needles = Vec::new();
        let files = self.entries.iter().filter(|(_, kind)| *kind == Kind::File);
        for (path, _) in files.take(SEARCHED_FILES_MAX) {
            let name = path.file_name().unwrap_or_default();
            let what = format!("the name {}", name.to_string_lossy());
            needles.push(Needle { what, bytes: name.as_bytes().to_owned() });
            let mut file = File::open(self.root.join(path))?;
            let middle = file.metadata()?.len() / 2;
            file.seek(SeekFrom::Start(middle))?;
            let mut bytes = Vec::new();
            file.take(SEARCHED_LEN as u64).read_to_end(&mut bytes)?;
            // A run of one byte is in everything.
            if bytes.iter().any(|byte| *byte != bytes[0]) {
                needles.push(Needle { what: format!("a piece of {}", path.display()), bytes });
            }
        }
        needles.retain(|needle| needle.bytes.len() >= super::search::NEEDLE_LEN_MIN);
        Ok(needles)
    }
}

fn same_file(a: &Path, b: &Path) -> io::Result<bool> {
    let (file_a, file_b) = (File::open(a)?, File::open(b)?);
    let mode = |file: &File| file.metadata().map(|data| data.permissions().mode() & 0o777);
    if mode(&file_a)? != mode(&file_b)? {
        return Ok(false);
    }
    let (mut a, mut b) =
        (BufReader::with_capacity(1 << 17, file_a), BufReader::with_capacity(1 << 17, file_b));
    loop {
        let (left, right) = (a.fill_buf()?, b.fill_buf()?);
        let length = left.len().min(right.len());
        if left[..length] != right[..length] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(left.len() == right.len());
        }
        a.consume(length);
        b.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Sample) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("from");
        fs::create_dir_all(root.join("inner/deep")).unwrap();
        fs::create_dir_all(root.join("target")).unwrap();
        fs::write(root.join("target/built"), "skip").unwrap();
        fs::write(root.join("some-long-name.txt"), "the contents of a file").unwrap();
        fs::write(root.join("inner/deep/empty"), "").unwrap();
        fs::write(root.join("inner/big"), vec![7; 300_000]).unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("link")).unwrap();
        let sample = Sample::collect(&root).unwrap();
        (dir, sample)
    }

    #[test]
    fn a_copy_compares_equal_until_one_bit_changes() {
        let (dir, sample) = tree();
        assert_eq!(sample.file_count(), 3);
        let copy = dir.path().join("copy");
        sample.copy_to(&copy).unwrap();
        let compared = sample.compare(&copy).unwrap();
        assert_eq!(compared, Compared { file_count: 3, link_count: 1, bytes: 300_022 });
        let mut bytes = vec![7; 300_000];
        bytes[299_999] ^= 1;
        fs::write(copy.join("inner/big"), &bytes).unwrap();
        let error = sample.compare(&copy).unwrap_err();
        assert_eq!(crate::cli::exit::code_of(&error), Code::Corrupt);
        bytes.truncate(299_999);
        fs::write(copy.join("inner/big"), &bytes).unwrap();
        assert!(sample.compare(&copy).is_err());
        fs::remove_file(copy.join("inner/big")).unwrap();
        assert!(sample.compare(&copy).is_err());
    }

    #[test]
    fn needles_are_names_and_contents() {
        let (_dir, sample) = tree();
        let needles = sample.needles().unwrap();
        let what: Vec<&str> = needles.iter().map(|needle| needle.what.as_str()).collect();
        assert_eq!(what, ["the name some-long-name.txt", "a piece of some-long-name.txt"]);
    }

    #[test]
    fn an_empty_directory_is_no_sample() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Sample::collect(dir.path()).is_err());
    }
}

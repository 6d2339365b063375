//! One suite of cases for every implementation of [`Vfs`].
//!
//! A case uses the trait and nothing else, so the engine, the model and a client
//! that drives a kernel mount are all held to the same sentences. Where an
//! implementation cannot see or do something, its [`Profile`] says so and the
//! cases that need it are skipped, visibly.
//!
//! [`run_all`] runs everything over fresh file systems; [`cases`] is the list, for
//! harnesses that want to run them one by one. Every case works in a directory of
//! its own, so that `make` may also hand out one file system again and again.

mod attributes;
mod copies;
mod data;
mod directories;
mod exec;
mod fixture;
mod handles;
mod locks;
mod names;
mod permissions;
mod rename;
mod sparse;
mod stability;
mod tree;
mod xattrs;

pub use exec::{block_on, poll_once};
pub use fixture::{Failure, Fixture, Verdict};

use crate::Vfs;
use std::fmt;
use std::pin::Pin;

/// What an implementation can do and show.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// [`crate::Dac::Enforce`] is honoured for any caller a case names.
    pub enforces_dac: bool,
    /// So is every other [`crate::Dac`]; through a kernel, who decides is settled.
    pub chooses_dac: bool,
    /// Aligned holes at least this long are reported as holes; 0: never.
    pub hole_granularity: u64,
    /// [`crate::IfExists::SameVerifier`] works.
    pub exclusive_create: bool,
    /// Inodes without a name can be asked for by number.
    pub by_inode: bool,
    /// Two operations never have the same change time.
    pub exact_times: bool,
    /// [`crate::Attr::change`] is filled in.
    pub has_change: bool,
    /// [`crate::Attr::btime`] is filled in.
    pub has_btime: bool,
    /// A write that does not fit below the longest length is refused altogether; a
    /// kernel writes as much as fits, as POSIX says.
    pub refuses_whole_writes: bool,
    /// [`crate::WriteAt::Late`] can be said; a system call cannot.
    pub late_writes: bool,
    /// Also run the cases that take tens of thousands of operations.
    pub slow: bool,
}

impl Profile {
    /// Can do everything, and holes are whole blocks of this many bytes.
    #[must_use]
    pub const fn full(hole_granularity: u64) -> Self {
        Self {
            enforces_dac: true,
            chooses_dac: true,
            hole_granularity,
            exclusive_create: true,
            by_inode: true,
            exact_times: true,
            has_change: true,
            has_btime: true,
            refuses_whole_writes: true,
            late_writes: true,
            slow: true,
        }
    }
}

/// The body of a case.
pub type Run<V> = for<'a> fn(&'a Fixture<V>) -> Pin<Box<dyn Future<Output = Verdict> + 'a>>;

/// One thing a file system must do.
#[expect(missing_debug_implementations, reason = "deriving would demand it of the file system")]
pub struct Case<V: Vfs> {
    /// Which part of the contract it is about.
    pub area: &'static str,
    /// What it says.
    pub name: &'static str,
    /// Whether an implementation with this profile can be held to it.
    pub applies: fn(&Profile) -> bool,
    /// The case itself.
    pub run: Run<V>,
}

/// Lists cases, each an `async fn(&Fixture<V>) -> Verdict` of this module, some
/// `if` the profile says so.
macro_rules! list {
    ($area:literal: $($name:ident $(if $need:expr)?),* $(,)?) => {
        pub(super) fn cases<V: crate::Vfs>() -> Vec<super::Case<V>> {
            vec![$(super::Case {
                area: $area,
                name: stringify!($name),
                applies: |profile| {
                    let needs: &[fn(&super::Profile) -> bool] = &[$($need)?];
                    needs.iter().all(|need| need(profile))
                },
                run: |fixture| Box::pin($name(fixture)),
            }),*]
        }
    };
}
use list;

/// Every case.
#[must_use]
pub fn cases<V: Vfs>() -> Vec<Case<V>> {
    let areas = [
        tree::cases,
        names::cases,
        rename::cases,
        data::cases,
        sparse::cases,
        copies::cases,
        handles::cases,
        attributes::cases,
        permissions::cases,
        directories::cases,
        xattrs::cases,
        locks::cases,
        stability::cases,
    ];
    areas.iter().flat_map(|area| area()).collect()
}

/// What came of a run.
#[derive(Debug, Default)]
#[must_use = "a report that nobody reads finds nothing"]
pub struct Report {
    /// How many cases held.
    pub passed: usize,
    /// Cases that do not apply to the profile.
    pub skipped: Vec<String>,
    /// Cases that were left out, and why.
    pub excepted: Vec<(String, String)>,
    /// Cases that failed, and how.
    pub failed: Vec<(String, Failure)>,
}

impl Report {
    /// Panics with every failure, for tests.
    pub fn assert_passed(&self) {
        assert!(self.failed.is_empty(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (failed, skipped) = (self.failed.len(), self.skipped.len() + self.excepted.len());
        write!(f, "{} passed, {failed} failed, {skipped} skipped", self.passed)?;
        for name in &self.skipped {
            write!(f, "\nskipped: {name}")?;
        }
        for (name, reason) in &self.excepted {
            write!(f, "\nskipped: {name}: {reason}")?;
        }
        for (name, failure) in &self.failed {
            write!(f, "\n{name}: {failure}")?;
        }
        Ok(())
    }
}

/// Runs every case that applies, each over what `make` gives.
pub async fn run_all<V: Vfs>(profile: &Profile, make: impl Fn() -> V) -> Report {
    run_except(profile, &[], make).await
}

/// Runs every case that applies and is not left out, each over what `make` gives. What is
/// left out is a case (`area::name`) or a whole area, with the reason; to leave out what
/// is not in the suite is a failure.
pub async fn run_except<V: Vfs>(
    profile: &Profile,
    except: &[(&str, &str)],
    make: impl Fn() -> V,
) -> Report {
    let mut report = Report::default();
    let mut unknown: Vec<_> = except.iter().map(|(excepted, _)| *excepted).collect();
    for case in cases::<V>() {
        let name = format!("{}::{}", case.area, case.name);
        unknown.retain(|excepted| *excepted != name && *excepted != case.area);
        let reason =
            except.iter().find(|(excepted, _)| *excepted == name || *excepted == case.area);
        if let Some((_, reason)) = reason {
            report.excepted.push((name, (*reason).to_owned()));
            continue;
        }
        if !(case.applies)(profile) {
            report.skipped.push(name);
            continue;
        }
        let verdict = async {
            let fixture = Fixture::new(make(), *profile, &name).await?;
            (case.run)(&fixture).await
        };
        match verdict.await {
            Ok(()) => report.passed += 1,
            Err(failure) => report.failed.push((name, failure)),
        }
    }
    let missing = unknown.into_iter().map(|name| (name.to_owned(), Failure::no_such_case()));
    report.failed.extend(missing);
    report
}

#[cfg(test)]
mod tests;

//! How a command ends: the numbers scripts may rely on, and the one place that
//! decides which cause gets which.
//!
//! | code | meaning |
//! |--:|---|
//! | 0 | done |
//! | 1 | something else went wrong |
//! | 2 | the command line is not right |
//! | 3 | the configuration is not right |
//! | 4 | wrong password, recovery code or key file |
//! | 5 | the password or another secret file cannot be read, or others can read it |
//! | 6 | the store holds another vault, or an older state, than this machine knows |
//! | 7 | the store cannot be reached or refuses |
//! | 8 | data in the store is damaged or missing |
//! | 9 | the mount point cannot be used or freed |
//! | 10 | the local state or cache cannot be used: disk full, not writable |
//! | 11 | busy: another process has this vault open here |
//! | 12 | not found: no vault in the store, nothing mounted, no such key |
//!
//! Numbers are never reused or moved. The first line of a failure says what to do;
//! the causes follow, one a line.

use super::render::one_line;
use crate::config;
use std::error::Error as StdError;
use std::fmt;

/// Most causes of a failure that another process reports.
const CAUSES_MAX: usize = 64;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Done.
    Done = 0,
    /// Something else went wrong.
    Other = 1,
    /// The command line is not right.
    Usage = 2,
    /// The configuration is not right.
    Configuration = 3,
    /// Wrong password, recovery code or key file.
    WrongSecret = 4,
    /// The password or another secret cannot be read, or others can read it.
    SecretUnreadable = 5,
    /// Another vault, or an older state, than this machine knows.
    VaultMismatch = 6,
    /// The store cannot be reached or refuses.
    StoreUnreachable = 7,
    /// Data in the store is damaged or missing.
    Corrupt = 8,
    /// The mount point cannot be used or freed.
    MountPoint = 9,
    /// Local state or cache cannot be used.
    LocalState = 10,
    /// Another process has this vault open here.
    Busy = 11,
    /// No vault, nothing mounted, no such key.
    NotFound = 12,
}

impl Code {
    /// Every code, by number.
    pub const ALL: [Self; 13] = [
        Self::Done,
        Self::Other,
        Self::Usage,
        Self::Configuration,
        Self::WrongSecret,
        Self::SecretUnreadable,
        Self::VaultMismatch,
        Self::StoreUnreachable,
        Self::Corrupt,
        Self::MountPoint,
        Self::LocalState,
        Self::Busy,
        Self::NotFound,
    ];

    /// The number the process ends with.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The code with this number; anything unknown is [`Code::Other`].
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        Self::ALL.into_iter().find(|code| code.number() == number).unwrap_or(Self::Other)
    }

    /// What it means, for `--help`.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Other => "something else went wrong",
            Self::Usage => "the command line is not right",
            Self::Configuration => "the configuration is not right",
            Self::WrongSecret => "wrong password, recovery code or key file",
            Self::SecretUnreadable => "a secret file cannot be read, or others can read it",
            Self::VaultMismatch => "the store holds another vault, or an older state",
            Self::StoreUnreachable => "the store cannot be reached or refuses",
            Self::Corrupt => "data in the store is damaged or missing",
            Self::MountPoint => "the mount point cannot be used or freed",
            Self::LocalState => "the local state or cache cannot be used",
            Self::Busy => "another process has this vault open here",
            Self::NotFound => "no vault in the store, nothing mounted, or no such key",
        }
    }
}

/// The table of codes, for `--help`.
pub(super) fn help() -> String {
    let lines = Code::ALL.iter().map(|c| format!("  {:>2}  {}", c.number(), c.meaning()));
    format!("Exit codes:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

/// A failure with its exit code.
#[derive(Debug)]
pub struct Failure {
    code: Code,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Failure {
    /// A failure without a further cause. The message says what to do.
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), source: None }
    }

    /// A failure because of `source`.
    pub(super) fn because(
        code: Code,
        message: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self { code, message: message.into(), source: Some(source.into()) }
    }

    /// A failure from the lines another process reported; never [`Code::Done`].
    pub(super) fn from_lines(code: Code, lines: &[String]) -> Self {
        let code = if code == Code::Done { Code::Other } else { code };
        let Some((first, causes)) = lines.split_first() else {
            return Self::new(code, "the other process reported no reason");
        };
        // Each cause owns the next, so their number is also a depth of the stack.
        let causes = &causes[..causes.len().min(CAUSES_MAX)];
        let source = causes.iter().rev().fold(None, |inner: Option<Self>, line| {
            let source = inner.map(|inner| Box::new(inner) as Box<dyn StdError + Send + Sync>);
            Some(Self { code, message: line.clone(), source })
        });
        let source = source.map(|inner| Box::new(inner) as Box<dyn StdError + Send + Sync>);
        Self { code, message: first.clone(), source }
    }

    /// Says where: adds the store to the first line, unless it is there.
    pub(super) fn in_store(mut self, url: &str) -> Self {
        let is_about_it =
            matches!(self.code, Code::WrongSecret | Code::VaultMismatch | Code::Corrupt);
        if is_about_it && !self.message.contains(url) {
            self.message = format!("{} ({url})", self.message);
        }
        self
    }

    /// Its exit code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// Gives the errors of a result an exit code and a first line.
pub(super) trait OrFail<T> {
    /// Fails with `code`; the first line is `message`, the error is the cause.
    fn or_fail(self, code: Code, message: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> OrFail<T> for Result<T, E> {
    fn or_fail(self, code: Code, message: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure::because(code, message, error))
    }
}

/// The exit code of an error: of the first cause that has one.
pub(super) fn code_of(error: &anyhow::Error) -> Code {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.code;
        }
        if let Some(error) = cause.downcast_ref::<config::Error>() {
            let is_secret = error.is_shared_secret();
            return if is_secret { Code::SecretUnreadable } else { Code::Configuration };
        }
    }
    Code::Other
}

/// The lines of an error: what to do, then the causes.
pub(super) fn lines_of(error: &anyhow::Error) -> Vec<String> {
    error.chain().map(|cause| one_line(&cause.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn numbers_are_fixed() {
        let numbers: Vec<u8> = Code::ALL.iter().map(|code| code.number()).collect();
        assert_eq!(numbers, (0..=12).collect::<Vec<u8>>());
        assert_eq!(Code::WrongSecret.number(), 4);
        assert_eq!(Code::SecretUnreadable.number(), 5);
        assert_eq!(Code::StoreUnreachable.number(), 7);
        assert_eq!(Code::NotFound.number(), 12);
        for code in Code::ALL {
            assert_eq!(Code::from_number(code.number()), code);
        }
        assert_eq!(Code::from_number(200), Code::Other);
    }

    #[test]
    fn the_documented_table_is_the_real_one() {
        let source = include_str!("exit.rs");
        for code in Code::ALL {
            assert!(source.contains(&format!("//! | {} | ", code.number())), "{code:?}");
            assert!(help().contains(code.meaning()));
        }
    }

    #[test]
    fn finds_the_code_below_added_context() {
        let inner = Failure::because(Code::Busy, "stop it", std::io::Error::other("locked"));
        let error = anyhow::Error::from(inner).context("cannot sync");
        assert_eq!(code_of(&error), Code::Busy);
        assert_eq!(lines_of(&error), ["cannot sync", "stop it", "locked"]);
        assert_eq!(code_of(&anyhow::anyhow!("what")), Code::Other);
        let config: anyhow::Result<()> = Err(config::Error::NoHome).context("x");
        assert_eq!(code_of(&config.unwrap_err()), Code::Configuration);
        let shared =
            config::Error::SharedSecret { path: "/x".into(), holds: "a secret", mode: 0o644 };
        assert_eq!(code_of(&shared.into()), Code::SecretUnreadable);
    }

    #[test]
    fn lines_survive_the_way_between_processes() {
        let lines = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let failure = Failure::from_lines(Code::Corrupt, &lines);
        let error = anyhow::Error::from(failure);
        assert_eq!(lines_of(&error), lines);
        assert_eq!(code_of(&error), Code::Corrupt);
        assert_eq!(lines_of(&Failure::from_lines(Code::Other, &[]).into()).len(), 1);
    }

    #[test]
    fn messages_cannot_move_the_cursor() {
        assert_eq!(lines_of(&anyhow::anyhow!("a\x1b[2Jb\nc")), ["a [2Jb c"]);
    }

    #[test]
    fn what_another_process_reports_is_a_failure_of_bounded_depth() {
        let lines = vec![String::from("why"); 1 << 20];
        let failure = Failure::from_lines(Code::Done, &lines);
        assert_eq!(failure.code(), Code::Other);
        assert_eq!(lines_of(&failure.into()).len(), 1 + CAUSES_MAX);
        assert_eq!(Failure::from_lines(Code::Busy, &[]).code(), Code::Busy);
    }
}

//! Tables of the local database and their statements.

use super::{Error, Result};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql};
use std::path::Path;

/// "tgcf"; tells our file from anybody else's.
const APPLICATION_ID: i64 = 0x7467_6366;
/// Rises when the tables change, or what their rows are bound to; `older` brings older
/// files up to it.
pub(super) const VERSION: i64 = 2;

/// Pages that the writing connection keeps: as much as a busy commit changes.
const WRITER_CACHE_KIB: i64 = 32 << 10;
/// Pages that each reading one keeps. The kernel remembers the rest, once for all of them.
pub(super) const READER_CACHE_KIB: i64 = 8 << 10;
/// Pages that the one keeps which looks names up: what leads to the rows of some million
/// files (4 MiB each), though every lookup wants two pages that the next does not.
pub const STATE_CACHE_KIB: i64 = 24 << 10;

/// Pages that are logged before they are written to their places.
pub(super) const LOG_PAGES: i64 = 4096;

const CREATE: &str = "
CREATE TABLE session (id INTEGER PRIMARY KEY, salt BLOB NOT NULL) STRICT;
CREATE TABLE single  (k INTEGER PRIMARY KEY, v BLOB NOT NULL) STRICT;
CREATE TABLE ino     (k INTEGER PRIMARY KEY, v BLOB NOT NULL) STRICT;
CREATE TABLE dent    (k BLOB PRIMARY KEY, v BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE link    (k BLOB PRIMARY KEY, v BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE blk     (k BLOB PRIMARY KEY, v BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE pack    (k BLOB PRIMARY KEY, v BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE outbox  (k INTEGER PRIMARY KEY, v BLOB NOT NULL) STRICT;
CREATE TABLE sending (k INTEGER PRIMARY KEY, v BLOB NOT NULL) STRICT;
CREATE TABLE opendir (k INTEGER PRIMARY KEY, v BLOB NOT NULL) STRICT;
CREATE TABLE orphan  (k INTEGER PRIMARY KEY, v BLOB NOT NULL) STRICT;
CREATE TABLE patch   (id INTEGER PRIMARY KEY, ino INTEGER NOT NULL, block INTEGER NOT NULL, v BLOB NOT NULL) STRICT;
CREATE INDEX patch_at ON patch (ino, block);
";

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Rows of which there is one each: see `meta::singles`.
    Single,
    /// Inodes by number.
    Ino,
    /// Directory entries by directory and name hash.
    Dent,
    /// Where each link is, by link.
    Link,
    /// Where each block is, by block id.
    Block,
    /// Packs by id.
    Pack,
    /// Groups of ops not yet in a segment, in order.
    Outbox,
    /// Signed segments not yet confirmed by the store, by sequence number.
    Sending,
    /// Directory entries of packs that are still open, in order.
    OpenDir,
    /// Inodes without a name that were open at the last commit.
    Orphan,
    /// Small writes not yet merged into a block.
    Patch,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 11] = [
        Self::Single,
        Self::Ino,
        Self::Dent,
        Self::Link,
        Self::Block,
        Self::Pack,
        Self::Outbox,
        Self::Sending,
        Self::OpenDir,
        Self::Orphan,
        Self::Patch,
    ];
}

/// The name of a table between two pieces of SQL.
macro_rules! sql {
    ($table:expr, $before:literal, $after:literal) => {
        match $table {
            Table::Single => concat!($before, "single", $after),
            Table::Ino => concat!($before, "ino", $after),
            Table::Dent => concat!($before, "dent", $after),
            Table::Link => concat!($before, "link", $after),
            Table::Block => concat!($before, "blk", $after),
            Table::Pack => concat!($before, "pack", $after),
            Table::Outbox => concat!($before, "outbox", $after),
            Table::Sending => concat!($before, "sending", $after),
            Table::OpenDir => concat!($before, "opendir", $after),
            Table::Orphan => concat!($before, "orphan", $after),
            Table::Patch => concat!($before, "patch", $after),
        }
    };
}

impl Table {
    /// Its name in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        sql!(self, "", "")
    }

    pub(super) fn select(self) -> &'static str {
        sql!(self, "SELECT v FROM ", " WHERE k = ?1")
    }

    pub(super) fn upsert(self) -> &'static str {
        sql!(self, "INSERT INTO ", " (k, v) VALUES (?1, ?2) ON CONFLICT (k) DO UPDATE SET v = ?2")
    }

    pub(super) fn delete(self) -> &'static str {
        sql!(self, "DELETE FROM ", " WHERE k = ?1")
    }

    pub(super) fn range(self) -> &'static str {
        sql!(self, "SELECT k, v FROM ", " WHERE k > ?1 AND k <= ?2 ORDER BY k LIMIT ?3")
    }

    pub(super) fn scan(self) -> &'static str {
        sql!(self, "SELECT k, v FROM ", " ORDER BY k")
    }

    pub(super) fn count(self) -> &'static str {
        sql!(self, "SELECT count(*) FROM ", "")
    }

    pub(super) fn has_int_key(self) -> bool {
        matches!(
            self,
            Self::Single | Self::Ino | Self::Outbox | Self::Sending | Self::OpenDir | Self::Orphan
        )
    }

    /// What the seal of its rows is bound to.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Single => 1,
            Self::Ino => 2,
            Self::Dent => 3,
            Self::Link => 4,
            Self::Block => 5,
            Self::Pack => 6,
            Self::Outbox => 7,
            Self::Sending => 8,
            Self::Orphan => 9,
            Self::Patch => 10,
            Self::OpenDir => 11,
        }
    }
}

/// A row's key.
#[derive(Clone, Copy, Debug)]
pub enum Key<'a> {
    /// For tables keyed by a number.
    Int(i64),
    /// For tables keyed by bytes.
    Bytes(&'a [u8]),
}

impl Key<'_> {
    /// An inode number as a key.
    #[must_use]
    pub fn ino(ino: u64) -> Self {
        // Inode numbers are below 2^63.
        Self::Int(ino as i64)
    }
}

impl ToSql for Key<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Int(number) => ValueRef::Integer(*number),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// What a patch's seal is bound to: it counts only at this place, and only as this row,
/// since the order of the rows is the order of the writes.
pub(super) fn patch_key(ino: u64, block: u64, row: i64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&ino.to_be_bytes());
    key[8..16].copy_from_slice(&block.to_be_bytes());
    key[16..].copy_from_slice(&row.to_be_bytes());
    key
}

/// Settings every connection needs.
pub(super) fn configure(connection: &Connection, cache_kib: i64) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(30))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "mmap_size", 0)
}

/// Makes the tables of a new file, or checks whose a file is; answers its version.
pub(super) fn prepare(connection: &Connection, path: &Path) -> Result<i64> {
    let sqlite = |source| Error::Sqlite { path: path.to_owned(), source };
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    configure(connection, WRITER_CACHE_KIB).map_err(sqlite)?;
    let application_id = match pragma("application_id") {
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            return Err(Error::Foreign { path: path.to_owned() });
        }
        other => other.map_err(sqlite)?,
    };
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(sqlite)?;
    let mut version = VERSION;
    if tables > 0 {
        if application_id != APPLICATION_ID {
            return Err(Error::Foreign { path: path.to_owned() });
        }
        version = pragma("user_version").map_err(sqlite)?;
        if version > VERSION {
            let (path, found) = (path.to_owned(), version);
            return Err(Error::TooNew { path, found, known: VERSION });
        }
    }
    let durable = || {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A commit that returned has to survive a power cut.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)
    };
    if tables > 0 {
        return durable().map(|()| version).map_err(sqlite);
    }
    let create = || {
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        durable()?;
        connection
            .execute_batch(&format!("BEGIN; {CREATE} PRAGMA user_version = {VERSION}; COMMIT;"))
    };
    create().map(|()| version).map_err(sqlite)
}

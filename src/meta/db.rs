//! The local database: a cache of the folded log plus this machine's unsent
//! tail, in one SQLite file.
//!
//! * One transaction carries a state change *and* the ops that tell others of
//!   it, so the file is always an exact prefix of what happened.
//! * Every value is sealed, bound to its table and key. Keys are inode numbers
//!   or keyed hashes; of a patch its file, its block and its place in the order.
//! * The file can be thrown away: `fsck --rebuild` makes it again from the
//!   store, all but the unsent tail.

mod older;
mod schema;
mod seal;
#[cfg(test)]
mod tests;
mod wal;

use crate::codec::DecodeError;
use crate::crypto::secret::Key32;
use crate::env::Env;
use parking_lot::Mutex;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schema::READER_CACHE_KIB;
pub use schema::{Key, STATE_CACHE_KIB, Table};
pub use seal::RowSeal;

/// Why the local database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite failed; a full disk is told apart by [`Error::is_full`].
    #[error("local database {}: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Its files cannot be read or written.
    #[error("local database {}: {source}", path.display())]
    Io {
        /// The database.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A row does not open: another key, or changed behind our back.
    #[error(
        "local database: a row of table {table} does not authenticate; rebuild it from the store with `tgcryptfs fsck --rebuild`"
    )]
    Seal {
        /// The table.
        table: &'static str,
    },
    /// A row opened but makes no sense.
    #[error("local database: a row of table {table} is malformed: {source}")]
    Row {
        /// The table.
        table: &'static str,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// Written by a newer build.
    #[error("local database {}: version {found} is newer than this program knows ({known}); update the program, or remove the file and rebuild", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version known.
        known: i64,
    },
    /// Not a database of ours.
    #[error("local database {}: the file is something else", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The linked SQLite has known bugs.
    #[error("SQLite {found} is too old: 3.51.3 or newer is needed")]
    OldSqlite {
        /// Its version.
        found: &'static str,
    },
}

impl Error {
    /// Whether the disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Sqlite { source, .. } => {
                source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            }
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            _ => false,
        }
    }

    /// Whether the file is damaged, as opposed to out of reach.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match self {
            Self::Sqlite { source, .. } => {
                matches!(source.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
            }
            Self::Seal { .. } | Self::Row { .. } | Self::Foreign { .. } => true,
            Self::Io { .. } | Self::TooNew { .. } | Self::OldSqlite { .. } => false,
        }
    }
}

/// Shorthand for a database result.
pub type Result<T> = std::result::Result<T, Error>;

/// The database of one namespace on one machine.
#[derive(Debug)]
pub struct Db {
    path: PathBuf,
    seal: Arc<RowSeal>,
    writer: Mutex<Connection>,
}

impl Db {
    /// Opens or creates the file in `dir`; `key` is this machine's.
    pub fn open(dir: &Path, key: &Key32, env: Env) -> Result<Self> {
        let path = dir.join("state.db");
        if rusqlite::version_number() < 3_051_003 {
            return Err(Error::OldSqlite { found: rusqlite::version() });
        }
        let sqlite = |source| Error::Sqlite { path: path.clone(), source };
        if !path.exists() {
            // SQLite removes a log that is there before its database.
            schema::prepare(&Connection::open(&path).map_err(sqlite)?, &path)?;
        }
        wal::prepare(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        let writer = Connection::open(&path).map_err(sqlite)?;
        let version = schema::prepare(&writer, &path)?;
        let salt = env.random_array::<16>();
        writer.execute("INSERT INTO session (salt) VALUES (?1)", [&salt[..]]).map_err(sqlite)?;
        let session = writer.last_insert_rowid();
        let sessions = load_sessions(&writer).map_err(sqlite)?;
        let seal = Arc::new(RowSeal::new(key, &sessions, session, env));
        let db = Self { path, seal, writer: Mutex::new(writer) };
        if version < schema::VERSION {
            older::bring_up(&db)?;
        }
        Ok(db)
    }

    /// A further connection that only reads; it sees what is committed.
    pub fn reader(&self) -> Result<Reader> {
        self.reader_with(READER_CACHE_KIB)
    }

    /// A further connection that only reads, and keeps so many pages.
    pub fn reader_with(&self, cache_kib: i64) -> Result<Reader> {
        let sqlite = |source| Error::Sqlite { path: self.path.clone(), source };
        let connection = Connection::open(&self.path).map_err(sqlite)?;
        schema::configure(&connection, cache_kib).map_err(sqlite)?;
        connection.pragma_update(None, "query_only", true).map_err(sqlite)?;
        Ok(Reader { path: self.path.clone(), seal: self.seal.clone(), connection })
    }

    /// Removes every row of every table.
    pub fn clear(&self) -> Result<()> {
        self.write(|txn| {
            for table in Table::ALL {
                let sql = format!("DELETE FROM {}", table.name());
                txn.cached(&sql)?.execute([]).map_err(|e| txn.sqlite(e))?;
            }
            Ok(())
        })
    }

    /// Runs one transaction; after `Ok` it is on stable storage.
    pub fn write<T>(&self, change: impl FnOnce(&Txn<'_>) -> Result<T>) -> Result<T> {
        let mut writer = self.writer.lock();
        let sqlite = |source| Error::Sqlite { path: self.path.clone(), source };
        let transaction =
            writer.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
        let txn = Txn { path: &self.path, seal: &self.seal, connection: &transaction };
        let value = change(&txn)?;
        transaction.commit().map_err(sqlite)?;
        Ok(value)
    }
}

fn load_sessions(connection: &Connection) -> rusqlite::Result<Vec<(i64, Vec<u8>)>> {
    let mut statement = connection.prepare("SELECT id, salt FROM session")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// What reading needs, shared by [`Reader`] and [`Txn`].
trait Source {
    fn path(&self) -> &Path;
    fn seal(&self) -> &RowSeal;
    fn connection(&self) -> &Connection;

    fn sqlite(&self, source: rusqlite::Error) -> Error {
        Error::Sqlite { path: self.path().to_owned(), source }
    }

    fn cached(&self, sql: &str) -> Result<CachedStatement<'_>> {
        self.connection().prepare_cached(sql).map_err(|e| self.sqlite(e))
    }

    fn get_row(&self, table: Table, key: Key<'_>) -> Result<Option<Vec<u8>>> {
        let mut statement = self.cached(table.select())?;
        let found: Option<Vec<u8>> =
            statement.query_row([key], |row| row.get(0)).optional().map_err(|e| self.sqlite(e))?;
        found.map(|sealed| self.seal().open(table, key, &sealed)).transpose()
    }
}

/// A connection for reading.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    seal: Arc<RowSeal>,
    connection: Connection,
}

impl Source for Reader {
    fn path(&self) -> &Path {
        &self.path
    }
    fn seal(&self) -> &RowSeal {
        &self.seal
    }
    fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl Reader {
    /// The value of a row.
    pub fn get(&self, table: Table, key: Key<'_>) -> Result<Option<Vec<u8>>> {
        self.get_row(table, key)
    }

    /// Up to `max` rows of `table` with keys in `after..=last` (`after`
    /// excluded), in key order.
    pub fn range(
        &self,
        table: Table,
        after: Key<'_>,
        last: Key<'_>,
        max: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut statement = self.cached(table.range())?;
        let limit = i64::try_from(max).unwrap_or(i64::MAX);
        let mut rows =
            statement.query(rusqlite::params![after, last, limit]).map_err(|e| self.sqlite(e))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(|e| self.sqlite(e))? {
            found.push(self.opened(table, row)?);
        }
        Ok(found)
    }

    /// The first rows with keys in `after..=last` (`after` excluded) of a table keyed by
    /// numbers: until they come to `len` bytes, and one if there is any.
    pub fn piece(
        &self,
        table: Table,
        (after, last): (i64, i64),
        len: usize,
    ) -> Result<Vec<(i64, Vec<u8>)>> {
        let mut statement = self.cached(table.range())?;
        let mut rows =
            statement.query(rusqlite::params![after, last, -1]).map_err(|e| self.sqlite(e))?;
        let (mut found, mut found_len) = (Vec::new(), 0);
        while found_len < len
            && let Some(row) = rows.next().map_err(|e| self.sqlite(e))?
        {
            let (key, value) = self.opened(table, row)?;
            found_len += value.len();
            found.push((key.try_into().map_or(0, i64::from_be_bytes), value));
        }
        Ok(found)
    }

    fn opened(&self, table: Table, row: &Row<'_>) -> Result<(Vec<u8>, Vec<u8>)> {
        let sealed: Vec<u8> = row.get(1).map_err(|e| self.sqlite(e))?;
        if table.has_int_key() {
            let key: i64 = row.get(0).map_err(|e| self.sqlite(e))?;
            let plain = self.seal.open(table, Key::Int(key), &sealed)?;
            Ok((key.to_be_bytes().to_vec(), plain))
        } else {
            let key: Vec<u8> = row.get(0).map_err(|e| self.sqlite(e))?;
            let plain = self.seal.open(table, Key::Bytes(&key), &sealed)?;
            Ok((key, plain))
        }
    }

    /// Calls `each` with every row of `table`, in key order, as of one moment.
    pub fn scan<E: From<Error>>(
        &self,
        table: Table,
        mut each: impl FnMut(&[u8], &[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut statement = self.cached(table.scan())?;
        let mut rows = statement.query([]).map_err(|e| self.sqlite(e))?;
        while let Some(row) = rows.next().map_err(|e| self.sqlite(e))? {
            let (key, value) = self.opened(table, row)?;
            each(&key, &value)?;
        }
        Ok(())
    }

    /// Rows in `table`.
    pub fn count(&self, table: Table) -> Result<u64> {
        let count: i64 = self
            .cached(table.count())?
            .query_row([], |row| row.get(0))
            .map_err(|e| self.sqlite(e))?;
        Ok(count.unsigned_abs())
    }

    /// Bytes of all rows of `table`, as sealed.
    pub fn bytes_in(&self, table: Table) -> Result<u64> {
        let sql = format!("SELECT coalesce(sum(length(v)), 0) FROM {}", table.name());
        let bytes: i64 =
            self.cached(&sql)?.query_row([], |row| row.get(0)).map_err(|e| self.sqlite(e))?;
        Ok(bytes.unsigned_abs())
    }

    /// The highest key of a table keyed by numbers; 0 if it is empty.
    pub fn last_key(&self, table: Table) -> Result<i64> {
        let sql = format!("SELECT coalesce(max(k), 0) FROM {}", table.name());
        self.cached(&sql)?.query_row([], |row| row.get(0)).map_err(|e| self.sqlite(e))
    }

    /// The files that have patches, how many, and their bytes as sealed.
    pub fn patched_inodes(&self) -> Result<Vec<(u64, u64, u64)>> {
        let sql = "SELECT ino, count(*), sum(length(v)) FROM patch GROUP BY ino";
        let mut statement = self.cached(sql)?;
        let number = |row: &Row<'_>, at| row.get::<_, i64>(at).map(|number| number as u64);
        let inodes: rusqlite::Result<Vec<_>> = statement
            .query_map([], |row| Ok((number(row, 0)?, number(row, 1)?, number(row, 2)?)))
            .map_err(|e| self.sqlite(e))?
            .collect();
        inodes.map_err(|e| self.sqlite(e))
    }

    /// Every patch of a file: its row, block and sealed value opened, oldest first.
    pub fn patches(&self, ino: u64) -> Result<Vec<(i64, u64, Vec<u8>)>> {
        let mut statement =
            self.cached("SELECT id, block, v FROM patch WHERE ino = ?1 ORDER BY id")?;
        let mut rows = statement.query([ino as i64]).map_err(|e| self.sqlite(e))?;
        let mut patches: Vec<(i64, u64, Vec<u8>)> = Vec::new();
        while let Some(row) = rows.next().map_err(|e| self.sqlite(e))? {
            let read = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get(2)?));
            let (id, block, sealed): (i64, i64, Vec<u8>) = read(row).map_err(|e| self.sqlite(e))?;
            let key = schema::patch_key(ino, block as u64, id);
            let value = self.seal.open(Table::Patch, Key::Bytes(&key), &sealed)?;
            // Somebody else's hand on the tree may have put rows in any order, or twice.
            if patches.last().is_some_and(|(last, ..)| *last >= id) {
                return Err(Error::Seal { table: Table::Patch.name() });
            }
            patches.push((id, block as u64, value));
        }
        Ok(patches)
    }

    /// Runs `read` on one unchanging state of the database: that of its first read. It
    /// also takes the locks of the file once for all of them.
    pub fn snapshot<T, E: From<Error>>(
        &self,
        read: impl FnOnce(&Self) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        self.run("BEGIN")?;
        let result = read(self);
        // A read that failed may have ended it already, and says why better than this would.
        let ended = if self.connection.is_autocommit() { Ok(()) } else { self.end_snapshot() };
        let value = result?;
        ended?;
        Ok(value)
    }

    /// Fixes what this connection sees, as of now, until [`Reader::end_snapshot`].
    pub fn begin_snapshot(&self) -> Result<()> {
        self.run("BEGIN")?;
        self.count(Table::Single).map(drop)
    }

    /// Lets this connection see new commits again.
    pub fn end_snapshot(&self) -> Result<()> {
        self.run("COMMIT")
    }

    fn run(&self, sql: &str) -> Result<()> {
        self.cached(sql)?.execute([]).map(drop).map_err(|e| self.sqlite(e))
    }

    /// SQLite's own check of the file; an empty list is a clean one.
    pub fn check_file(&self) -> Result<Vec<String>> {
        let mut statement = self.cached("PRAGMA quick_check")?;
        let lines: rusqlite::Result<Vec<String>> =
            statement.query_map([], |row| row.get(0)).map_err(|e| self.sqlite(e))?.collect();
        let lines = lines.map_err(|e| self.sqlite(e))?;
        Ok(lines.into_iter().filter(|line| line != "ok").collect())
    }
}

/// One transaction.
#[derive(Debug)]
pub struct Txn<'a> {
    path: &'a Path,
    seal: &'a RowSeal,
    connection: &'a Connection,
}

impl Source for Txn<'_> {
    fn path(&self) -> &Path {
        self.path
    }
    fn seal(&self) -> &RowSeal {
        self.seal
    }
    fn connection(&self) -> &Connection {
        self.connection
    }
}

impl Txn<'_> {
    /// The value of a row.
    pub fn get(&self, table: Table, key: Key<'_>) -> Result<Option<Vec<u8>>> {
        self.get_row(table, key)
    }

    /// Writes a row.
    pub fn put(&self, table: Table, key: Key<'_>, value: &[u8]) -> Result<()> {
        let sealed = self.seal.seal(table, key, value);
        self.cached(table.upsert())?
            .execute(rusqlite::params![key, sealed])
            .map_err(|e| self.sqlite(e))?;
        Ok(())
    }

    /// Removes a row, if it is there.
    pub fn delete(&self, table: Table, key: Key<'_>) -> Result<()> {
        self.cached(table.delete())?.execute([key]).map_err(|e| self.sqlite(e))?;
        Ok(())
    }

    /// Removes every row of a table with an integer key up to `last`.
    pub fn delete_through(&self, table: Table, last: i64) -> Result<()> {
        let sql = format!("DELETE FROM {} WHERE k <= ?1", table.name());
        self.cached(&sql)?.execute([last]).map_err(|e| self.sqlite(e))?;
        Ok(())
    }

    /// Appends a patch; answers its row.
    pub fn add_patch(&self, ino: u64, block: u64, value: &[u8]) -> Result<i64> {
        let last: Option<i64> = self
            .cached("SELECT max(id) FROM patch")?
            .query_row([], |row| row.get(0))
            .map_err(|e| self.sqlite(e))?;
        // None comes behind the last number of all, which no row of ours has.
        let taken = || Error::Seal { table: Table::Patch.name() };
        let id = last.unwrap_or(0).checked_add(1).ok_or_else(taken)?;
        let key = schema::patch_key(ino, block, id);
        let sealed = self.seal.seal(Table::Patch, Key::Bytes(&key), value);
        self.cached("INSERT INTO patch (id, ino, block, v) VALUES (?1, ?2, ?3, ?4)")?
            .execute(rusqlite::params![id, ino as i64, block as i64, sealed])
            .map_err(|e| self.sqlite(e))?;
        Ok(id)
    }

    /// Removes one patch.
    pub fn delete_patch(&self, row: i64) -> Result<()> {
        self.cached("DELETE FROM patch WHERE id = ?1")?
            .execute([row])
            .map_err(|e| self.sqlite(e))?;
        Ok(())
    }

    /// Removes the patches of a file in `blocks`, both ends included.
    pub fn delete_patches(&self, ino: u64, first: u64, last: u64) -> Result<()> {
        let last = i64::try_from(last).unwrap_or(i64::MAX);
        self.cached("DELETE FROM patch WHERE ino = ?1 AND block BETWEEN ?2 AND ?3")?
            .execute(rusqlite::params![ino as i64, first as i64, last])
            .map_err(|e| self.sqlite(e))?;
        Ok(())
    }
}

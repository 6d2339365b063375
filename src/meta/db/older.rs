//! Databases that older builds wrote, brought up to what this one reads.
//!
//! The first version bound a patch to its file and block only, and not to its row. The
//! order in which they are found is believed once. What was sealed since does not open in
//! the older way, so a database does not become an older one by saying that it is one.

use super::{Db, Error, Key, Result, Source, Table, schema};
use rusqlite::OptionalExtension;

/// How much of a patch's key the first version bound it to.
const FIRST_KEY_LEN: usize = 16;

/// One by one, since patches may be much and the table changes meanwhile.
const NEXT: &str = "SELECT id, ino, block, v FROM patch WHERE id > ?1 ORDER BY id LIMIT 1";

/// Seals every patch of `db` anew, bound to its row as well: all of them or none.
pub(super) fn bring_up(db: &Db) -> Result<()> {
    db.write(|txn| {
        let mut last = i64::MIN;
        loop {
            let next: Option<(i64, i64, i64, Vec<u8>)> = txn
                .cached(NEXT)?
                .query_row([last], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
                .optional()
                .map_err(|e| txn.sqlite(e))?;
            let Some((id, ino, block, sealed)) = next else { break };
            if id <= last {
                // The tree is not in order: this would never end.
                return Err(Error::Seal { table: Table::Patch.name() });
            }
            let key = schema::patch_key(ino as u64, block as u64, id);
            let place = Key::Bytes(&key[..FIRST_KEY_LEN]);
            let value = txn.seal.open(Table::Patch, place, &sealed)?;
            let sealed = txn.seal.seal(Table::Patch, Key::Bytes(&key), &value);
            txn.cached("UPDATE patch SET v = ?2 WHERE id = ?1")?
                .execute(rusqlite::params![id, sealed])
                .map_err(|e| txn.sqlite(e))?;
            last = id;
        }
        let version = txn.connection.pragma_update(None, "user_version", schema::VERSION);
        version.map_err(|e| txn.sqlite(e))
    })
}

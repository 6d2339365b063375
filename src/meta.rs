//! The namespace's state: rows, the local database, the state in memory, and
//! what an op does to it.

pub mod checkpoint;
pub mod db;
pub mod fold;
pub mod row;
pub mod singles;
pub mod state;

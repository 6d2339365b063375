//! One file system in memory behind several servers, and the load that compares them.
//!
//! ```text
//! serving serve nfs|nfsserve|nfs3_server|9p ADDRESS [DIR]
//! serving load nfs ADDRESS MOUNT_ADDRESS PATH PID streams|small
//! serving load 9p ADDRESS MSIZE NAME PID streams|small
//! ```
//!
//! `serve` keeps data in memory, or in files in DIR.
//!
//! `load` prints a line of JSON for each step: its name, seconds, how many operations
//! and bytes, and the CPU seconds of the server (the process PID) and of itself.

#![allow(clippy::disallowed_methods, reason = "it measures, in real time")]

mod load;
mod memory;
mod peers;

use memory::Memory;
use std::error::Error;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", kind, address] => peers::serve(kind, address, Arc::new(Memory::new(None))),
        ["serve", kind, address, dir] => {
            peers::serve(kind, address, Arc::new(Memory::new(Some(dir.into()))))
        }
        ["load", "nfs", address, mount_address, path, pid, group] => {
            load::nfs::run(address, mount_address, path, load::Meter::new(pid.parse()?)?, group)
        }
        ["load", "9p", address, msize, name, pid, group] => {
            load::p9::run(address, msize.parse()?, name, load::Meter::new(pid.parse()?)?, group)
        }
        _ => Err("see the top of src/main.rs for what can be asked".into()),
    }
}

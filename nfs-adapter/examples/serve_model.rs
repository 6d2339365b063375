//! Serves the model file system, which is empty and in memory, until it is killed:
//! `serve_model 127.0.0.1:11111`. For trying clients, a kernel's above all.

use listen::{Endpoint, Policy};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::SystemTime;
use tgcryptfs_nfs::{Export, Server};
use tokio::runtime::Builder;
use vfs::Timestamp;
use vfs::model::ModelFs;
use zeroize::Zeroizing;

#[expect(clippy::disallowed_methods, reason = "clients compare with their own clock")]
fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    Timestamp { seconds, nanoseconds: now.subsec_nanos() }
}

fn main() -> io::Result<()> {
    let usage = || io::Error::new(io::ErrorKind::InvalidInput, "usage: serve_model ADDRESS:PORT");
    let addr = std::env::args().nth(1).ok_or_else(usage)?;
    let runtime = Builder::new_multi_thread().enable_time().build()?;
    // Known keys, so that handles outlive a restart; the files do not.
    let export = Export::new([1; 16], Zeroizing::new([2; 32]));
    let endpoint = Endpoint::Tcp(TcpListener::bind(&addr)?);
    let fs = Arc::new(ModelFs::new(Arc::new(now)));
    let policy = Policy { accepts_per_second_max: 1000, ..Policy::default() };
    let server = Server::start(fs, endpoint, policy, export, runtime.handle().clone())?;
    println!("serving on {addr}");
    runtime.block_on(std::future::pending::<()>());
    server.stop();
    Ok(())
}

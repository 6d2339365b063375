//! Serves the model file system, which lives in memory, for trying clients out.
//!
//! ```text
//! cargo run --release -p tgcryptfs-p9 --example serve_9p -- 127.0.0.1:5640
//! cargo run --release -p tgcryptfs-p9 --example serve_9p -- unix:/run/user/1000/9p
//! ```

use listen::{Endpoint, Policy};
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::SystemTime;
use tgcryptfs_p9::{Export, Server};
use vfs::Timestamp;
use vfs::model::{ModelFs, ModelOptions};

#[expect(clippy::disallowed_methods, reason = "what clients see is the time")]
fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: now.as_secs().cast_signed(), nanoseconds: now.subsec_nanos() }
}

fn main() -> io::Result<()> {
    env_logger::init();
    let place = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:5640".to_owned());
    let endpoint = match place.strip_prefix("unix:") {
        Some(path) => Endpoint::Unix(UnixListener::bind(path)?),
        None => Endpoint::Tcp(TcpListener::bind(&place)?),
    };
    let options = ModelOptions { root_mode: 0o1777, ..ModelOptions::default() };
    let fs = Arc::new(ModelFs::with_options(Arc::new(now), options));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    let handle = runtime.handle().clone();
    let server = Server::start(fs, endpoint, Policy::default(), Export::default(), handle)?;
    println!("serving at {place}");
    // Until it is killed.
    loop {
        std::thread::park();
        drop(server.peers());
    }
}

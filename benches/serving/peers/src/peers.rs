//! The servers that are compared, each over the same file system.

mod nfs3;
mod nfsserve;

use crate::memory::Memory;
use listen::{Endpoint, Policy};
use std::error::Error;
use std::net::TcpListener;
use std::sync::Arc;
use tokio::runtime::Builder;
use zeroize::Zeroizing;

type Ended = Result<(), Box<dyn Error>>;

/// Serves until the process is killed.
pub(crate) fn serve(kind: &str, address: &str, fs: Arc<Memory>) -> Ended {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    match kind {
        "nfs" => {
            let export = nfs_adapter::Export::new([1; 16], Zeroizing::new([2; 32]));
            let (policy, handle) = (Policy::default(), runtime.handle().clone());
            let _server = nfs_adapter::Server::start(fs, listen(address)?, policy, export, handle)?;
            for_ever()
        }
        "9p" => {
            let export =
                p9_adapter::Export { match_peer_uid: false, ..p9_adapter::Export::default() };
            let (policy, handle) = (Policy::default(), runtime.handle().clone());
            let _server = p9_adapter::Server::start(fs, listen(address)?, policy, export, handle)?;
            for_ever()
        }
        "nfsserve" => runtime.block_on(nfsserve::serve(address, fs)),
        "nfs3_server" => runtime.block_on(nfs3::serve(address, fs)),
        _ => Err(format!("there is no server {kind}").into()),
    }
}

fn listen(address: &str) -> std::io::Result<Endpoint> {
    TcpListener::bind(address).map(Endpoint::Tcp)
}

fn for_ever() -> ! {
    loop {
        std::thread::park();
    }
}

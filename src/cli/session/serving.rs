//! An open vault behind a server of a network protocol.

use super::{Session, durability};
use crate::cli::context::Context;
use crate::cli::exit::{Code, Failure, OrFail};
use crate::cli::host::Front;
use crate::crypto::Key32;
use crate::env::Env;
use anyhow::Result;
use listen::{Endpoint, Peer, Policy};
use parking_lot::{Condvar, Mutex};
use std::net::SocketAddr;
use std::sync::Arc;
use zeroize::Zeroizing;

/// As whom callers act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) enum Squash {
    /// As who they say they are.
    #[default]
    None,
    /// Root acts as this user and group.
    Root { uid: u32, gid: u32 },
    /// Everybody acts as this user and group.
    All { uid: u32, gid: u32 },
}

/// What clients may do.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cli) struct Terms {
    pub(in crate::cli) is_read_only: bool,
    pub(in crate::cli) squash: Squash,
    /// A client on this machine must be who it says it is.
    pub(in crate::cli) match_peer_uid: bool,
    /// The only user, beside root, who may do anything.
    pub(in crate::cli) only_user: Option<u32>,
}

/// What has to be mounted, where that is not for everybody to know.
pub(in crate::cli) struct SecretPath {
    /// A slash, and a name that nobody can guess.
    pub(in crate::cli) path: Zeroizing<String>,
    /// Whether it is good for one mount, as the handles are then.
    pub(in crate::cli) is_for_one_mount: bool,
}

impl SecretPath {
    fn name(&self) -> Zeroizing<String> {
        Zeroizing::new(self.path.trim_start_matches('/').to_owned())
    }
}

impl Session {
    /// Serves NFS; `secret` is the path, if it is one.
    pub(in crate::cli) fn serve_nfs(
        &self,
        context: &Context,
        endpoint: Endpoint,
        policy: Policy,
        terms: &Terms,
        secret: Option<SecretPath>,
    ) -> Result<ServedNfs> {
        use nfs_adapter::{Export, ExportPath, Server, Squash as NfsSquash};
        let engine = &self.service.engine;
        let is_for_one_mount = secret.as_ref().is_some_and(|secret| secret.is_for_one_mount);
        let key = handle_key(engine.nfs_handle_key(), &context.env, is_for_one_mount);
        let mut export = Export::new(engine.fs_id(), key);
        if let Some(secret) = secret {
            export.path = ExportPath::Secret { name: secret.name(), once: is_for_one_mount };
        }
        export.read_only = terms.is_read_only;
        export.match_peer_uid = terms.match_peer_uid;
        export.fsync = durability(&context.loaded.config);
        export.squash = match terms.squash {
            Squash::None => NfsSquash::None,
            Squash::Root { uid, gid } => NfsSquash::Root { uid, gid },
            Squash::All { uid, gid } => NfsSquash::All { uid, gid },
        };
        export.only_user = terms.only_user;
        let runtime = self.runtime.handle().clone();
        let server = Server::start(Arc::new(engine.clone()), endpoint, policy, export, runtime);
        Ok(ServedNfs::new(server.or_fail(Code::Other, "cannot start to serve")?))
    }

    /// Serves 9P; `secret` is what the tree is called, if that is one.
    pub(in crate::cli) fn serve_p9(
        &self,
        context: &Context,
        endpoint: Endpoint,
        policy: Policy,
        terms: &Terms,
        secret: Option<SecretPath>,
    ) -> Result<ServedP9> {
        use p9_adapter::{Export, Server, Squash as P9Squash, TreeName};
        let engine = &self.service.engine;
        let export = Export {
            fs_id: engine.fs_id(),
            name: secret
                .map_or(TreeName::Open, |secret| TreeName::Secret(secret.name().as_bytes().into())),
            read_only: terms.is_read_only,
            squash: match terms.squash {
                Squash::None => P9Squash::None,
                Squash::Root { uid, gid } => P9Squash::Root { uid, gid },
                Squash::All { uid, gid } => P9Squash::All { uid, gid },
            },
            match_peer_uid: terms.match_peer_uid,
            fsync: durability(&context.loaded.config),
            ..Export::default()
        };
        let runtime = self.runtime.handle().clone();
        let server = Server::start(Arc::new(engine.patient()), endpoint, policy, export, runtime);
        Ok(ServedP9::new(server.or_fail(Code::Other, "cannot start to serve")?))
    }
}

/// The key that handles are made with. Clients of `serve` keep theirs across restarts, so
/// it is the machine's; what is for one mount ends with its server, and its handles are
/// good for no later one.
fn handle_key(of_machine: &Key32, env: &Env, is_for_one_mount: bool) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new(*of_machine.expose());
    if is_for_one_mount {
        env.fill_random(key.as_mut_slice());
    }
    key
}

/// What the servers of all protocols can do.
pub(in crate::cli) trait Serves: Send + Sync {
    fn local_addr(&self) -> Option<SocketAddr>;
    fn peers(&self) -> Vec<Peer>;
    fn stop(&self);
}

impl Serves for nfs_adapter::Server {
    fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr()
    }
    fn peers(&self) -> Vec<Peer> {
        self.peers()
    }
    fn stop(&self) {
        self.stop();
    }
}

impl Serves for p9_adapter::Server {
    fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr()
    }
    fn peers(&self) -> Vec<Peer> {
        self.peers()
    }
    fn stop(&self) {
        self.stop();
    }
}

/// A server that is over when it is stopped.
pub(in crate::cli) struct Served<S> {
    server: S,
    is_stopped: Mutex<bool>,
    stopped: Condvar,
}

/// A server of NFS.
pub(in crate::cli) type ServedNfs = Served<nfs_adapter::Server>;
/// A server of 9P.
pub(in crate::cli) type ServedP9 = Served<p9_adapter::Server>;

impl<S: Serves> Served<S> {
    fn new(server: S) -> Self {
        Self { server, is_stopped: Mutex::new(false), stopped: Condvar::new() }
    }

    /// The address it listens on, if it is one of the network.
    pub(in crate::cli) fn local_addr(&self) -> Option<SocketAddr> {
        self.server.local_addr()
    }

    /// Who is connected.
    pub(in crate::cli) fn clients(&self) -> Vec<String> {
        self.server.peers().iter().map(ToString::to_string).collect()
    }

    /// Ends every connection, once answers under way are out.
    pub(in crate::cli) fn stop(&self) {
        self.server.stop();
        *self.is_stopped.lock() = true;
        self.stopped.notify_all();
    }
}

impl<S: Serves> Front for Served<S> {
    fn wait(&self) {
        let mut is_stopped = self.is_stopped.lock();
        while !*is_stopped {
            self.stopped.wait(&mut is_stopped);
        }
    }

    fn end(&self) -> Result<(), Failure> {
        Self::stop(self);
        Ok(())
    }

    fn cut(&self) -> Result<(), Failure> {
        Self::stop(self);
        Ok(())
    }

    fn stop(&self) {
        Self::stop(self);
    }

    fn clients(&self) -> Option<Vec<String>> {
        Some(Self::clients(self))
    }
}

#[cfg(test)]
mod tests {
    use super::handle_key;
    use crate::crypto::Key32;
    use crate::env::Env;

    #[test]
    fn s33_handles_of_one_mount_are_good_for_no_other() {
        let (env, of_machine) = (Env::real(), Key32::copy_of(&[7; 32]));
        let mounts = [(); 2].map(|()| handle_key(&of_machine, &env, true));
        assert_ne!(*mounts[0], *mounts[1]);
        for key in &mounts {
            assert_ne!(**key, [7; 32], "nor for what is served");
        }
        assert_eq!(*handle_key(&of_machine, &env, false), [7; 32], "and those hold");
    }
}

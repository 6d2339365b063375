//! `serve`: opens the vault and serves it over NFS or 9P, for machines and systems that
//! mount it themselves.
//!
//! Nothing on such a connection is encrypted, and a client is whoever it says it is. So
//! what other machines can reach is read-only, unless somebody says that writes may come
//! in the clear.

mod advice;
mod place;
mod socket;

use super::context::Context;
use super::exit::{Code, Failure, OrFail};
use super::host::{Front, HostArgs, Offered, Opening, refuse_running};
use super::session::{SecretPath, Session, Squash, Terms, hex};
use crate::config::FlagValue;
use crate::env::Env;
use advice::Advice;
use anyhow::Result;
use listen::{Cidr, Endpoint, Policy};
use parking_lot::Mutex;
use place::{Place, check_exposure, parse_squash};
use socket::SocketFile;
use std::net::TcpListener;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Bytes in the random part of a path.
const SECRET_LEN: usize = 16;

/// Serve the file system over NFS or 9P
#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    /// Which protocol
    #[arg(value_enum)]
    protocol: Protocol,
    /// Where: an address with a port, as in 127.0.0.1:2049, or for 9p unix:/run/vault.sock
    #[arg(long, value_name = "ADDR|unix:PATH")]
    listen: String,
    /// Refuse every write
    #[arg(long)]
    read_only: bool,
    /// Let other machines write, although nothing protects what they send on its way
    #[arg(long, conflicts_with = "read_only")]
    accept_plaintext_writes: bool,
    /// Let in these addresses and no others; can be given several times
    #[arg(long, value_name = "CIDR")]
    allow: Vec<Cidr>,
    /// As whom clients act: none (who they say), root[:UID:GID] (root is somebody else) or
    /// all[:UID:GID] (everybody is) [default: none on this machine, all for others]
    #[arg(long, value_name = "WHO", value_parser = parse_squash)]
    squash: Option<Squash>,
    /// At an address of this machine, let in other users of it than root and yourself
    #[arg(long)]
    allow_other: bool,
    #[command(flatten)]
    host: HostArgs,
}

/// Protocols to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Protocol {
    /// NFS version 3
    Nfs,
    /// 9P2000.L
    #[value(name = "9p")]
    P9,
}

impl Protocol {
    /// Its name, as it is typed.
    fn name(self) -> &'static str {
        match self {
            Self::Nfs => "nfs",
            Self::P9 => "9p",
        }
    }
}

impl Serve {
    /// The configuration keys its flags set.
    pub(super) fn flags(&self) -> Vec<FlagValue> {
        let allow_other = self.allow_other.then(|| FlagValue {
            key: "mount.allow_other".to_owned(),
            value: "true".to_owned(),
            flag: "--allow-other".to_owned(),
        });
        allow_other.into_iter().collect()
    }

    /// Whether this process is the daemon, which nobody watches.
    pub(super) fn is_daemon(&self) -> bool {
        self.host.is_daemon()
    }

    pub(super) fn run(&self, context: &Context) -> Result<()> {
        self.host.run(context, self.read_only, || self.prepare(context))
    }

    /// What can be refused before a password is asked for.
    fn prepare<'a>(&'a self, context: &'a Context) -> Result<Opening<'a>> {
        context.check_supported()?;
        let place = Place::parse(&self.listen, self.protocol)?;
        check_exposure(&place, self.read_only, self.accept_plaintext_writes)?;
        if matches!(place, Place::Unix(_)) && !self.allow.is_empty() {
            let message = "leave out --allow: who may open a path is a matter of its directory";
            return Err(Failure::new(Code::Usage, message).into());
        }
        refuse_running(&context.paths()?)?;
        Ok(Box::new(move |session| self.open(context, session, &place)))
    }

    fn open(&self, context: &Context, session: &Session, place: &Place) -> Result<Offered> {
        let allows_others = context.loaded.config.mount.allow_other;
        let policy = self.policy(place, allows_others);
        let terms = self.terms(place, &policy, allows_others);
        let squash = terms.squash;
        let (endpoint, address, socket) = match place {
            Place::Tcp(addr) => {
                let bound = TcpListener::bind(addr).and_then(|l| Ok((l.local_addr()?, l)));
                let (addr, listener) =
                    bound.or_fail(Code::Other, format!("choose another address than {addr}"))?;
                (Endpoint::Tcp(listener), Place::Tcp(addr), None)
            }
            Place::Unix(path) => {
                let (listener, file) = SocketFile::bind(path)?;
                (Endpoint::Unix(listener), place.clone(), Some(file))
            }
        };
        if !place.is_private() && self.allow.is_empty() {
            log::warn!("whoever reaches {address} gets in: --allow narrows that");
        }
        let secret = secret_path(&context.env, place, &policy);
        let path = secret.as_ref().map(|secret| secret.path.clone());
        let front: Arc<dyn Front> = match self.protocol {
            Protocol::Nfs => {
                Arc::new(session.serve_nfs(context, endpoint, policy, &terms, secret)?)
            }
            Protocol::P9 => Arc::new(session.serve_p9(context, endpoint, policy, &terms, secret)?),
        };
        let (protocol, is_read_only) = (self.protocol, self.read_only);
        let path = path.as_ref().map(|path| path.as_str());
        let advice = Advice { protocol, place: &address, path, is_read_only, squash };
        Ok(Offered {
            front: Arc::new(WithSocket { front, socket: Mutex::new(socket) }),
            mount_point: None,
            title: format!("serving {} at {address}", protocol.name()),
            announcement: advice.lines(),
            address: Some(address.to_string()),
            via: protocol.name(),
        })
    }

    /// As whom clients act.
    fn squash(&self, place: &Place) -> Squash {
        self.squash.unwrap_or_else(|| place.default_squash())
    }

    /// Who gets in. At a place of this machine alone that is root and whoever serves, as
    /// with a mount, and others only if it is for them. Where everybody acts as one user,
    /// users of this machine do not by that become that user: beside those two only that
    /// user itself gets in. All this as far as it can be seen who comes.
    fn policy(&self, place: &Place, allows_others: bool) -> Policy {
        let mut policy = Policy { allow: self.allow.clone(), ..Policy::default() };
        let own = rustix::process::geteuid().as_raw();
        if place.is_private() && policy.peer_uids {
            policy.users = match self.squash(place) {
                Squash::All { uid, .. } => vec![0, own, uid],
                _ if allows_others => Vec::new(),
                _ => vec![0, own],
            };
        }
        policy
    }

    /// What clients may do.
    fn terms(&self, place: &Place, policy: &Policy, allows_others: bool) -> Terms {
        let squash = self.squash(place);
        let is_squashed = matches!(squash, Squash::All { .. });
        Terms {
            is_read_only: self.read_only,
            squash,
            // Users of this machine can reach whatever address others can. Whoever is made
            // somebody else may say anything, if let in.
            match_peer_uid: policy.peer_uids && !is_squashed,
            // Others come through a mount that root has made. Who acts as one user anyway may
            // say anything.
            only_user: (place.is_private() && !is_squashed && !allows_others)
                .then(|| rustix::process::geteuid().as_raw()),
        }
    }
}

/// What has to be mounted at a place of this machine where users of it cannot be told apart
/// (macOS): whoever serves is told, and whoever cannot see that command can only guess.
fn secret_path(env: &Env, place: &Place, policy: &Policy) -> Option<SecretPath> {
    let is_needed = place.is_private() && !policy.peer_uids;
    is_needed.then(|| {
        let path = Zeroizing::new(format!("/{}", hex(&env.random_array::<SECRET_LEN>())));
        SecretPath { path, is_for_one_mount: false }
    })
}

/// A server, and the path it is reached by: it goes when the server does.
struct WithSocket {
    front: Arc<dyn Front>,
    socket: Mutex<Option<SocketFile>>,
}

impl Front for WithSocket {
    fn wait(&self) {
        self.front.wait();
    }
    fn end(&self) -> Result<(), Failure> {
        self.front.end()
    }
    fn cut(&self) -> Result<(), Failure> {
        self.front.cut()
    }
    fn stop(&self) {
        self.front.stop();
        drop(self.socket.lock().take());
    }
    fn clients(&self) -> Option<Vec<String>> {
        self.front.clients()
    }
}

#[cfg(test)]
mod tests {
    use super::{Env, Place, Policy, Serve, secret_path};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        serve: Serve,
    }

    fn parse(words: &[&str]) -> (Serve, Place) {
        let Line { serve } = Line::try_parse_from(words).unwrap();
        let place = Place::parse(&serve.listen, serve.protocol).unwrap();
        (serve, place)
    }

    #[test]
    fn where_everybody_acts_as_one_user_no_stranger_of_this_machine_gets_in() {
        let own = rustix::process::geteuid().as_raw();
        for protocol in ["nfs", "9p"] {
            for address in ["127.0.0.1:2049", "[::1]:2049", "[::ffff:127.0.0.1]:2049"] {
                let words = ["serve", protocol, "--listen", address, "--squash", "all:4321:9"];
                let (serve, place) = parse(&words);
                let policy = serve.policy(&place, true);
                if !policy.peer_uids {
                    assert!(policy.users.is_empty(), "who comes cannot be seen");
                    continue;
                }
                for uid in [0, own, 4321] {
                    assert!(policy.allows_user(Some(uid)), "{protocol} {address} {uid}");
                }
                for stranger in [Some(4322), None] {
                    assert!(!policy.allows_user(stranger), "{protocol} {address} {stranger:?}");
                }
            }
            // Users of other machines are not known here.
            let (serve, place) = parse(&["serve", protocol, "--listen", "192.0.2.7:2049"]);
            assert!(serve.policy(&place, false).allows_user(None));
        }
    }

    #[test]
    fn others_get_in_at_a_place_of_this_machine_only_if_it_is_for_them() {
        let own = rustix::process::geteuid().as_raw();
        let stranger = Some(own + 1);
        for (place, squash) in [
            ("127.0.0.1:2049", "none"),
            ("[::1]:2049", "none"),
            ("127.0.0.1:2049", "root"),
            ("unix:/run/vault.sock", "none"),
        ] {
            let words = ["serve", "9p", "--listen", place, "--squash", squash];
            let (serve, place) = parse(&words);
            assert!(serve.flags().is_empty());
            let policy = serve.policy(&place, false);
            assert_eq!(serve.terms(&place, &policy, false).only_user, Some(own), "{words:?}");
            assert_eq!(policy.allows_user(stranger), !policy.peer_uids, "{words:?}");
            assert!(policy.allows_user(Some(own)) && policy.allows_user(Some(0)), "{words:?}");
            let (serve, place) = parse(&[&words[..], &["--allow-other"]].concat());
            assert_eq!(serve.flags()[0].key, "mount.allow_other");
            let policy = serve.policy(&place, true);
            assert_eq!(serve.terms(&place, &policy, true).only_user, None, "{words:?}");
            assert!(policy.allows_user(stranger), "{words:?}");
        }
        // At other addresses that is a matter of --allow and --squash.
        let words = ["serve", "nfs", "--listen", "192.0.2.7:2049", "--squash", "none"];
        let (serve, place) = parse(&words);
        let policy = serve.policy(&place, false);
        assert_eq!(serve.terms(&place, &policy, false).only_user, None);
        assert!(policy.allows_user(stranger));
    }

    #[test]
    fn where_users_cannot_be_told_apart_the_path_is_a_secret() {
        let (env, blind) = (Env::real(), Policy { peer_uids: false, ..Policy::default() });
        let (_, here) = parse(&["serve", "nfs", "--listen", "127.0.0.1:2049"]);
        let secrets = [(); 2].map(|()| secret_path(&env, &here, &blind).unwrap());
        assert_ne!(*secrets[0].path, *secrets[1].path);
        for secret in &secrets {
            assert!(secret.path.starts_with('/') && secret.path.len() == 33, "128 bits");
            assert!(!secret.is_for_one_mount, "it can be mounted again");
        }
        let seeing = Policy { peer_uids: true, ..Policy::default() };
        assert!(secret_path(&env, &here, &seeing).is_none());
        let (_, elsewhere) = parse(&["serve", "nfs", "--listen", "192.0.2.7:2049"]);
        assert!(secret_path(&env, &elsewhere, &blind).is_none(), "all would see it on its way");
    }

    #[test]
    fn users_of_this_machine_must_be_who_they_say_whatever_address_is_served() {
        let policy = Policy { peer_uids: true, ..Policy::default() };
        for protocol in ["nfs", "9p"] {
            for address in ["127.0.0.1:2049", "0.0.0.0:2049", "[::]:2049", "192.0.2.7:2049"] {
                for (squash, matches) in [("none", true), ("root", true), ("all", false)] {
                    let words = ["serve", protocol, "--listen", address, "--squash", squash];
                    let (serve, place) = parse(&words);
                    let terms = serve.terms(&place, &policy, true);
                    assert_eq!(terms.match_peer_uid, matches, "{protocol} {address} {squash}");
                }
            }
        }
    }
}

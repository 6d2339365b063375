//! Making files, directories, links and nodes.

use super::Procedure;
use super::names::plain_name;
use super::wire::{POST_OP_LEN, WCC_LEN, set_attr};
use crate::core::{Ask, Core, OK, Target};
use crate::dispatch::Answer;
use crate::handle::HANDLE_LEN;
use crate::rpc::accept;
use crate::xdr::{Decoded, Decoder, Malformed, padded};
use vfs::{Created, ErrorKind, IfExists, Kind, Make, Result, SetAttr, Vfs};

/// The status for a kind that cannot be made this way.
const BAD_TYPE: u32 = 10_007;

/// How a file is to be created (`createhow3`).
#[derive(Debug)]
pub(super) struct How {
    if_exists: IfExists,
    set: SetAttr,
}

impl How {
    pub(super) fn decode(args: &mut Decoder<'_>) -> Decoded<Self> {
        match args.u32()? {
            0 => Ok(Self { if_exists: IfExists::Reuse, set: set_attr(args)? }),
            1 => Ok(Self { if_exists: IfExists::Fail, set: set_attr(args)? }),
            // What the file is to be like is set afterwards.
            2 => {
                let verifier = args.fixed()?;
                Ok(Self { if_exists: IfExists::SameVerifier(verifier), set: SetAttr::default() })
            }
            _ => Err(Malformed),
        }
    }
}

/// A node to be made (`mknoddata3`); without a kind, it is one that cannot be.
#[derive(Debug)]
pub(super) struct Node {
    kind: Option<Kind>,
    set: SetAttr,
}

impl Node {
    pub(super) fn decode(args: &mut Decoder<'_>) -> Decoded<Self> {
        let number = args.u32()?;
        let set = match number {
            3 | 4 | 6 | 7 => set_attr(args)?,
            // Files, directories and links have procedures of their own.
            1 | 2 | 5 => SetAttr::default(),
            _ => return Err(Malformed),
        };
        let kind = match number {
            3 => Some(Kind::BlockDevice { major: args.u32()?, minor: args.u32()? }),
            4 => Some(Kind::CharDevice { major: args.u32()?, minor: args.u32()? }),
            6 => Some(Kind::Socket),
            7 => Some(Kind::Fifo),
            _ => None,
        };
        Ok(Self { kind, set })
    }
}

impl<V: Vfs> Core<V> {
    pub(super) async fn create(&self, ask: &Ask, dir: Target, name: &[u8], how: How) -> Answer {
        let made = async {
            self.may_change()?;
            let name = plain_name(name, ErrorKind::Exists)?;
            self.fs.create(ask.context(), dir?, name, &how.set, how.if_exists, None).await
        };
        let made = self.kept(ask, made.await).await;
        self.created(Procedure::Create, ask, dir, made).await
    }

    pub(super) async fn make_dir(
        &self,
        ask: &Ask,
        dir: Target,
        name: &[u8],
        set: &SetAttr,
    ) -> Answer {
        self.make(Procedure::MakeDir, ask, (dir, name), Make::Directory, set).await
    }

    pub(super) async fn symlink(
        &self,
        ask: &Ask,
        dir: Target,
        name: &[u8],
        set: &SetAttr,
        target: &[u8],
    ) -> Answer {
        self.make(Procedure::Symlink, ask, (dir, name), Make::Symlink { target }, set).await
    }

    pub(super) async fn make_node(
        &self,
        ask: &Ask,
        dir: Target,
        name: &[u8],
        node: Node,
    ) -> Answer {
        let Some(kind) = node.kind else {
            let mut out = accept(ask.xid, 4 + WCC_LEN);
            out.u32(BAD_TYPE);
            self.put_wcc_after(&mut out, self.attr_of(ask, dir).await.as_ref());
            return out.into();
        };
        self.make(Procedure::MakeNode, ask, (dir, name), Make::Node(kind), &node.set).await
    }

    async fn make(
        &self,
        procedure: Procedure,
        ask: &Ask,
        (dir, name): (Target, &[u8]),
        what: Make<'_>,
        set: &SetAttr,
    ) -> Answer {
        let made = async {
            self.may_change()?;
            let name = plain_name(name, ErrorKind::Exists)?;
            self.fs.make(ask.context(), dir?, name, what, set).await
        };
        let made = self.kept(ask, made.await).await;
        self.created(procedure, ask, dir, made).await
    }

    async fn created(
        &self,
        procedure: Procedure,
        ask: &Ask,
        dir: Target,
        made: Result<Created<V::Handle>>,
    ) -> Answer {
        let mut out = accept(ask.xid, 12 + padded(HANDLE_LEN) + POST_OP_LEN + WCC_LEN);
        match made {
            Ok(made) => {
                out.u32(OK);
                out.bool(true);
                self.put_handle(&mut out, made.entry.attr.ino);
                self.put_post_op(&mut out, Some(&made.entry.attr));
                self.put_wcc(&mut out, &made.dir);
            }
            Err(error) => {
                out.u32(self.report(procedure, dir, &error));
                self.put_wcc_after(&mut out, self.attr_of(ask, dir).await.as_ref());
            }
        }
        out.into()
    }
}

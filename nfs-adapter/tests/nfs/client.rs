//! A [`Vfs`] by NFS calls, for holding a server to what the trait says.
//!
//! What goes over the wire is encoded and decoded by `nfs3_client`, which knows nothing of
//! this server. It asks as a kernel does: opening asks for `ACCESS`, data reached by number
//! is opened first, appending goes to where the end was. Handles are computed from numbers
//! with the server's key, which checks every handle that the server gives, and lets what
//! has no name be asked for.
//!
//! What the protocol has no words for is refused ([`ErrorKind::NotSupported`]).

#[path = "client/fs.rs"]
mod fs;

use crate::handles;
use crate::stream::Stream;
use bytes::Bytes;
use nfs3_client::nfs3_types::mount::dirpath;
use nfs3_client::nfs3_types::nfs3::{
    self, ACCESS3args, FSINFO3args, GETATTR3args, LOOKUP3args, Nfs3Option, Nfs3Result,
    PATHCONF3args, READDIR3resok, READDIRPLUS3resok, diropargs3, fattr3, ftype3, nfs_fh3, nfsstat3,
    nfstime3, post_op_attr, post_op_fh3, sattr3, set_atime, set_mtime, wcc_data,
};
use nfs3_client::nfs3_types::rpc::{auth_unix, opaque_auth};
use nfs3_client::nfs3_types::xdr_codec::{Opaque, Pack, Unpack};
use nfs3_client::{MountClient, Nfs3Client, RpcError};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vfs::conformance::block_on;
use vfs::{
    Access, At, Attr, Context, Cookie, Created, DirEntry, DirPage, Entry, ErrorKind, Ino, Kind,
    Limits, OpenFlags, Result, SetAttr, SetTime, Timestamp, Validity, Wcc,
};

/// User, group and supplementary groups.
type Caller = (u32, u32, Vec<u32>);

/// A client; clones share its connections, one for each caller.
#[derive(Clone)]
pub(crate) struct Client {
    connect: Arc<dyn Fn() -> Stream + Send + Sync>,
    connections: Arc<Mutex<HashMap<Caller, Nfs3Client<Stream>>>>,
    limits: Limits,
}

/// An inode, and what it was opened for.
#[derive(Debug)]
pub(crate) struct Handle {
    ino: Ino,
    flags: OpenFlags,
}

fn kind_of(status: nfsstat3) -> ErrorKind {
    match status {
        nfsstat3::NFS3ERR_IO => ErrorKind::Io,
        nfsstat3::NFS3ERR_NOTSUPP => ErrorKind::NotSupported,
        nfsstat3::NFS3ERR_BADTYPE => ErrorKind::Invalid,
        nfsstat3::NFS3ERR_JUKEBOX => ErrorKind::Unavailable,
        _ => ErrorKind::ALL.into_iter().find(|kind| kind.nfs_status() == status as u32).unwrap(),
    }
}

fn time(time: nfstime3) -> Timestamp {
    Timestamp { seconds: time.seconds.into(), nanoseconds: time.nseconds }
}

fn nfs_time(time: Timestamp) -> nfstime3 {
    nfstime3 { seconds: time.seconds as u32, nseconds: time.nanoseconds }
}

fn attr(given: &fattr3) -> Attr {
    let (major, minor) = (given.rdev.specdata1, given.rdev.specdata2);
    let kind = match given.type_ {
        ftype3::NF3REG => Kind::Regular,
        ftype3::NF3DIR => Kind::Directory,
        ftype3::NF3BLK => Kind::BlockDevice { major, minor },
        ftype3::NF3CHR => Kind::CharDevice { major, minor },
        ftype3::NF3LNK => Kind::Symlink,
        ftype3::NF3SOCK => Kind::Socket,
        ftype3::NF3FIFO => Kind::Fifo,
    };
    Attr {
        ino: Ino::new(given.fileid).unwrap(),
        kind,
        mode: given.mode as u16,
        nlink: given.nlink,
        uid: given.uid,
        gid: given.gid,
        size: given.size,
        used: given.used,
        atime: time(given.atime),
        mtime: time(given.mtime),
        ctime: time(given.ctime),
        btime: Timestamp::default(),
        change: 0,
    }
}

/// Attributes are there when something worked.
fn post_op(given: &post_op_attr) -> Attr {
    match given {
        Nfs3Option::Some(given) => attr(given),
        Nfs3Option::None => panic!("no attributes"),
    }
}

/// And so are both halves of these.
fn wcc(given: &wcc_data) -> Wcc {
    let Nfs3Option::Some(before) = given.before else { panic!("no attributes before") };
    Wcc {
        before_size: before.size,
        before_mtime: time(before.mtime),
        before_ctime: time(before.ctime),
        after: post_op(&given.after),
    }
}

fn entry(attr: Attr) -> Entry {
    Entry { attr, validity: Validity::For(Duration::ZERO) }
}

fn file(ino: Ino) -> nfs_fh3 {
    nfs_fh3 { data: Opaque::owned(handles::handle(ino.get())) }
}

fn named(dir: Ino, name: &[u8]) -> diropargs3<'_> {
    diropargs3 { dir: file(dir), name: name.into() }
}

fn option<T, U: Pack + Unpack>(value: Option<T>, convert: impl FnOnce(T) -> U) -> Nfs3Option<U> {
    value.map_or(Nfs3Option::None, |value| Nfs3Option::Some(convert(value)))
}

fn to_set(set: &SetAttr) -> sattr3 {
    sattr3 {
        mode: option(set.mode, u32::from),
        uid: option(set.uid, |uid| uid),
        gid: option(set.gid, |gid| gid),
        size: option(set.size, |size| size),
        atime: match set.atime {
            None => set_atime::DONT_CHANGE,
            Some(SetTime::Now) => set_atime::SET_TO_SERVER_TIME,
            Some(SetTime::To(time)) => set_atime::SET_TO_CLIENT_TIME(nfs_time(time)),
        },
        mtime: match set.mtime {
            None => set_mtime::DONT_CHANGE,
            Some(SetTime::Now) => set_mtime::SET_TO_SERVER_TIME,
            Some(SetTime::To(time)) => set_mtime::SET_TO_CLIENT_TIME(nfs_time(time)),
        },
    }
}

/// What creating something answers.
fn created(obj: &post_op_fh3, attr: &post_op_attr, dir: &wcc_data) -> Created<Handle> {
    let attr = post_op(attr);
    assert_eq!(*obj, Nfs3Option::Some(file(attr.ino)));
    Created { entry: entry(attr), dir: wcc(dir), handle: None }
}

fn ino_of(at: At<'_, Handle>) -> Ino {
    match at {
        At::Ino(ino) => ino,
        At::Open(handle) => handle.ino,
    }
}

fn credential((uid, gid, groups): &Caller) -> opaque_auth<'static> {
    opaque_auth::auth_unix(&auth_unix {
        stamp: 0,
        machinename: Opaque::borrowed(b"test"),
        uid: *uid,
        gid: *gid,
        gids: groups.clone(),
    })
}

type Answer<T, E> = std::result::Result<Nfs3Result<T, E>, RpcError>;

impl Client {
    /// A client that connects in this way, and mounts what is there.
    pub(crate) fn new(connect: impl Fn() -> Stream + Send + Sync + 'static) -> Self {
        let root = (0, 0, Vec::new());
        let auth = credential(&root);
        let mut mount = MountClient::new_with_auth(connect(), auth.clone(), opaque_auth::default());
        let mounted = block_on(mount.mnt(dirpath(Opaque::borrowed(b"/")))).unwrap();
        assert_eq!(mounted.fhandle.0, file(Ino::ROOT).data);
        assert_eq!(mounted.auth_flavors, [1, 0], "AUTH_SYS, AUTH_NONE");
        let mut nfs = Nfs3Client::new_with_auth(connect(), auth, opaque_auth::default());
        let limits = limits(&mut nfs);
        let connections = Arc::new(Mutex::new(HashMap::from([(root, nfs)])));
        Self { connect: Arc::new(connect), connections, limits }
    }

    /// What a call answers that worked, or why it did not.
    fn ask<T, E>(
        &self,
        cx: Context<'_>,
        call: impl AsyncFnOnce(&mut Nfs3Client<Stream>) -> Answer<T, E>,
    ) -> Result<T> {
        let gid = cx.cred.gid.unwrap_or(cx.cred.uid);
        let caller = (cx.cred.uid, gid, cx.cred.groups.as_slice().to_vec());
        let mut connections = self.connections.lock().unwrap();
        let nfs = connections.entry(caller).or_insert_with_key(|caller| {
            let stream = (self.connect)();
            Nfs3Client::new_with_auth(stream, credential(caller), opaque_auth::default())
        });
        match block_on(call(nfs)).unwrap() {
            Nfs3Result::Ok(done) => Ok(done),
            // Had what follows another shape, it would not have been decoded.
            Nfs3Result::Err((status, _)) => Err(kind_of(status).into()),
        }
    }

    fn attr(&self, cx: Context<'_>, ino: Ino) -> Result<Attr> {
        let args = GETATTR3args { object: file(ino) };
        Ok(attr(&self.ask(cx, async |nfs| nfs.getattr(&args).await)?.obj_attributes))
    }

    fn find(&self, cx: Context<'_>, dir: Ino, name: &[u8]) -> Result<Entry> {
        let args = LOOKUP3args { what: named(dir, name) };
        let found = self.ask(cx, async |nfs| nfs.lookup(&args).await)?;
        let attr = post_op(&found.obj_attributes);
        assert_eq!(found.object, file(attr.ino));
        assert_eq!(post_op(&found.dir_attributes).ino, dir);
        Ok(entry(attr))
    }

    fn granted(&self, cx: Context<'_>, ino: Ino) -> Result<Access> {
        let args = ACCESS3args { object: file(ino), access: 0x3f };
        let answer = self.ask(cx, async |nfs| nfs.access(&args).await)?;
        assert_eq!(post_op(&answer.obj_attributes).ino, ino);
        let pairs = [
            (nfs3::ACCESS3_READ, Access::READ),
            (nfs3::ACCESS3_MODIFY, Access::WRITE),
            (nfs3::ACCESS3_LOOKUP | nfs3::ACCESS3_EXECUTE, Access::EXECUTE),
        ];
        let granted = pairs.iter().filter(|(bit, _)| answer.access & bit != 0);
        Ok(granted.fold(Access::default(), |all, (_, one)| all.and(*one)))
    }

    /// The inode, if it may be used for this; a regular file by number is opened for it.
    fn usable(&self, cx: Context<'_>, at: At<'_, Handle>, want: Access) -> Result<Ino> {
        match at {
            At::Open(handle) => {
                let has = match want {
                    Access::READ => handle.flags.read,
                    _ => handle.flags.write,
                };
                if has { Ok(handle.ino) } else { Err(ErrorKind::BadHandle.into()) }
            }
            At::Ino(ino) => {
                let is_file = self.attr(cx, ino)?.kind == Kind::Regular;
                if is_file && !self.granted(cx, ino)?.contains(want) {
                    return Err(ErrorKind::Access.into());
                }
                Ok(ino)
            }
        }
    }
}

fn limits(nfs: &mut Nfs3Client<Stream>) -> Limits {
    let root = file(Ino::ROOT);
    let info = block_on(nfs.fsinfo(&FSINFO3args { fsroot: root.clone() })).unwrap().unwrap();
    assert_eq!(post_op(&info.obj_attributes).ino, Ino::ROOT);
    assert_eq!(info.time_delta, nfstime3 { seconds: 0, nseconds: 1 });
    let properties =
        nfs3::FSF3_LINK | nfs3::FSF3_SYMLINK | nfs3::FSF3_HOMOGENEOUS | nfs3::FSF3_CANSETTIME;
    assert_eq!(info.properties, properties);
    let conf = block_on(nfs.pathconf(&PATHCONF3args { object: root })).unwrap().unwrap();
    assert_eq!(post_op(&conf.obj_attributes).ino, Ino::ROOT);
    assert!(conf.no_trunc && conf.chown_restricted);
    assert!(!conf.case_insensitive && conf.case_preserving);
    Limits {
        read_max: info.rtmax,
        write_max: info.wtmax,
        preferred: info.wtmult,
        name_max: conf.name_max,
        link_max: conf.linkmax,
        file_size_max: info.maxfilesize,
    }
}

/// A page of `READDIR` as the server gives it, dots and all.
pub(crate) fn page(given: READDIR3resok<'_>) -> DirPage {
    assert_eq!(given.cookieverf, nfs3::cookieverf3::default());
    let entries = given.reply.entries.into_inner().into_iter().map(|listed| DirEntry {
        ino: Ino::new(listed.fileid).unwrap(),
        kind: Kind::Regular,
        name: Bytes::copy_from_slice(listed.name.as_ref()),
        cookie: Cookie(listed.cookie),
        entry: None,
    });
    let entries = entries.collect();
    DirPage { entries, end: given.reply.eof, dir: post_op(&given.dir_attributes) }
}

/// A page of `READDIRPLUS`.
pub(crate) fn page_plus(given: READDIRPLUS3resok<'_>) -> DirPage {
    assert_eq!(given.cookieverf, nfs3::cookieverf3::default());
    let entries = given.reply.entries.into_inner().into_iter().map(|listed| {
        let attr = post_op(&listed.name_attributes);
        assert_eq!(attr.ino.get(), listed.fileid);
        assert_eq!(listed.name_handle, Nfs3Option::Some(file(attr.ino)));
        DirEntry {
            ino: attr.ino,
            kind: attr.kind,
            name: Bytes::copy_from_slice(listed.name.as_ref()),
            cookie: Cookie(listed.cookie),
            entry: Some(entry(attr)),
        }
    });
    let entries = entries.collect();
    DirPage { entries, end: given.reply.eof, dir: post_op(&given.dir_attributes) }
}

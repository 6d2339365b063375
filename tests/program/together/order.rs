//! Looks for an order of calls in which the model answers and ends as it was seen.
//!
//! A call that walks a path takes a step for each directory on the way, since others
//! may move it meanwhile, as on any Unix: what has been found stays found. The step
//! that changes something is one.

use super::call::{Call, Place, describe, describe_names};
use super::{Done, Tree};
use std::sync::LazyLock;
use vfs::conformance::block_on;
use vfs::model::ops::{Content, dump};
use vfs::model::{ManualClock, ModelFs, ModelHandle};
use vfs::{
    At, Attr, Budget, Context, Cookie, Cred, Dac, ErrorKind, IfExists, Ino, Kind, Make, Name,
    OpenFlags, Result, SetAttr, Stability, Vfs, WriteAt,
};

static ROOT: LazyLock<Cred> = LazyLock::new(Cred::root);

fn cx() -> Context<'static> {
    Context { cred: &ROOT, dac: Dac::Delegated, op: None }
}

fn name(place: Place) -> Name<'static> {
    Name::new(place.name.as_bytes()).unwrap()
}

/// What a process has in the model.
#[derive(Default)]
struct Actor {
    open: Option<ModelHandle>,
    /// What the call that is under way has found so far.
    trail: Vec<Ino>,
    /// Keeps what was found, as the kernel does.
    pins: Vec<ModelHandle>,
    /// Calls that are over, and steps of the next.
    calls: usize,
    steps: usize,
}

/// One step of a call.
enum Step {
    Enter(&'static str),
    Find(Place),
    Act,
}

fn steps(call: &Call) -> Vec<Step> {
    let enter = |place: &Place| place.dir.map(Step::Enter);
    let (first, found, second) = match call {
        Call::Open(it) | Call::Create { place: it, .. } | Call::Mkdir(it) | Call::Rmdir(it) => {
            (enter(it), None, None)
        }
        Call::Unlink(it) => (enter(it), None, None),
        Call::Stat(it) => (enter(it), Some(Step::Find(*it)), None),
        Call::Link(from, to) => (enter(from), Some(Step::Find(*from)), enter(to)),
        Call::Rename(from, to, _) => (enter(from), None, enter(to)),
        Call::Append(_) | Call::Read | Call::Cut | Call::StatOpen | Call::List => {
            (None, None, None)
        }
    };
    [first, found, second, Some(Step::Act)].into_iter().flatten().collect()
}

/// Where a place is, once its directory was found.
fn take(trail: &mut impl Iterator<Item = Ino>, place: Place) -> (Ino, Name<'static>) {
    let dir = if place.dir.is_some() { trail.next().unwrap() } else { Ino::ROOT };
    (dir, name(place))
}

fn describe_attr(attr: &Attr) -> String {
    describe(attr.kind == Kind::Directory, attr.nlink.into(), attr.size)
}

/// The model in the middle of an order.
struct Replay {
    fs: ModelFs,
    actors: [Actor; 2],
}

impl Replay {
    fn new(before: &[Call]) -> Self {
        let mut replay =
            Self { fs: ModelFs::new(ManualClock::new(0).clock()), actors: Default::default() };
        for call in before {
            while replay.step(0, call).is_none() {}
        }
        replay.actors = Default::default();
        replay
    }

    /// Takes the next step of a call; says what it answered if that was the last.
    fn step(&mut self, who: usize, call: &Call) -> Option<String> {
        let step = steps(call).swap_remove(self.actors[who].steps);
        self.actors[who].steps += 1;
        let outcome = block_on(async {
            match step {
                Step::Enter(dir) => {
                    let dir = Place { dir: None, name: dir };
                    self.find(who, Ino::ROOT, dir, true).await.map(|()| None)
                }
                Step::Find(place) => {
                    let last = self.actors[who].trail.last().copied();
                    let dir = place.dir.and(last).unwrap_or(Ino::ROOT);
                    self.find(who, dir, place, false).await.map(|()| None)
                }
                Step::Act => self.act(who, call).await.map(Some),
            }
        });
        let said = match outcome {
            Ok(said) => said?,
            Err(error) => format!("error {}", error.kind().errno()),
        };
        let actor = &mut self.actors[who];
        (actor.trail, actor.pins, actor.steps) = Default::default();
        actor.calls += 1;
        Some(said)
    }

    async fn find(&mut self, who: usize, dir: Ino, place: Place, enters: bool) -> Result<()> {
        let found = self.fs.lookup(cx(), dir, name(place)).await?.attr;
        if enters && found.kind != Kind::Directory {
            return Err(ErrorKind::NotDirectory.into());
        }
        let pin = self.fs.open(cx(), found.ino, OpenFlags::READ).await?;
        self.actors[who].pins.push(pin);
        self.actors[who].trail.push(found.ino);
        Ok(())
    }

    async fn act(&mut self, who: usize, call: &Call) -> Result<String> {
        let mut trail = self.actors[who].trail.clone().into_iter();
        let done = || "done".to_owned();
        match call {
            Call::Open(place) => {
                let (dir, name) = take(&mut trail, *place);
                let found = self.fs.lookup(cx(), dir, name).await?.attr.ino;
                let open = self.fs.open(cx(), found, OpenFlags::READ_WRITE).await?;
                self.actors[who].open = Some(open);
                Ok(done())
            }
            Call::Create { place, is_exclusive } => {
                let (dir, name) = take(&mut trail, *place);
                let taken = if *is_exclusive { IfExists::Fail } else { IfExists::Reuse };
                let attr = SetAttr { mode: Some(0o644), ..SetAttr::default() };
                let flags = Some(OpenFlags::READ_WRITE);
                let made = self.fs.create(cx(), dir, name, &attr, taken, flags).await?;
                self.actors[who].open = made.handle;
                Ok(done())
            }
            Call::Append(_) | Call::Read | Call::Cut | Call::StatOpen => {
                self.use_open(who, call).await
            }
            Call::Stat(_) => {
                let found = trail.next_back().unwrap();
                Ok(describe_attr(&self.fs.getattr(cx(), At::Ino(found)).await?.attr))
            }
            Call::Mkdir(place) => {
                let (dir, name) = take(&mut trail, *place);
                let attr = SetAttr { mode: Some(0o755), ..SetAttr::default() };
                self.fs.make(cx(), dir, name, Make::Directory, &attr).await.map(|_| done())
            }
            Call::Rmdir(place) => {
                let (dir, name) = take(&mut trail, *place);
                self.fs.rmdir(cx(), dir, name).await.map(|_| done())
            }
            Call::Unlink(place) => {
                let (dir, name) = take(&mut trail, *place);
                self.fs.unlink(cx(), dir, name).await.map(|_| done())
            }
            Call::Link(from, to) => {
                let found = trail.nth(usize::from(from.dir.is_some())).unwrap();
                let (dir, name) = take(&mut trail, *to);
                self.fs.link(cx(), found, dir, name).await.map(|_| done())
            }
            Call::Rename(from, to, mode) => {
                let (from, to) = (take(&mut trail, *from), take(&mut trail, *to));
                self.fs.rename(cx(), from, to, *mode).await.map(|_| done())
            }
            Call::List => self.list().await,
        }
    }

    async fn list(&self) -> Result<String> {
        let budget = Budget { entries: 100, name_bytes: 10_000, with_attr: false };
        let page = self.fs.readdir(cx(), At::Ino(Ino::ROOT), Cookie::default(), budget).await?;
        let names = page.entries.iter().map(|entry| {
            let name = String::from_utf8_lossy(&entry.name).into_owned();
            (name, entry.kind == Kind::Directory)
        });
        Ok(describe_names(names))
    }

    async fn use_open(&self, who: usize, call: &Call) -> Result<String> {
        let Some(file) = &self.actors[who].open else { return Ok("nothing is open".to_owned()) };
        let (fs, at) = (&self.fs, At::Open(file));
        match call {
            Call::Append(fill) => {
                let data = fill.to_string().into_bytes();
                let data = bytes::Bytes::from(data).into();
                let written = fs.write(cx(), at, WriteAt::End, data, Stability::Buffered).await?;
                Ok(written.count.to_string())
            }
            Call::Cut => {
                let set = SetAttr { size: Some(0), ..SetAttr::default() };
                fs.setattr(cx(), at, &set).await.map(|_| "done".to_owned())
            }
            Call::StatOpen => Ok(describe_attr(&fs.getattr(cx(), at).await?.attr)),
            _ => {
                let data = fs.read(cx(), at, 0, 64).await?.data.into_contiguous();
                Ok(String::from_utf8_lossy(&data).into_owned())
            }
        }
    }
}

/// What the model holds, in the words of [`super::tree_of_dir`].
fn tree_of_model(fs: &ModelFs) -> Tree {
    let nodes = block_on(dump(fs, false)).unwrap();
    let string = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let tree = nodes.into_iter().map(|(path, node)| {
        let content = match (&node.same_as, &node.content) {
            _ if node.kind == Kind::Directory => "a directory".to_owned(),
            (Some(first), _) => format!("the same as {}", string(first)),
            (None, Content::File(cells)) => {
                string(&cells.values().flatten().copied().collect::<Vec<_>>())
            }
            other => format!("{other:?}"),
        };
        (string(&path), format!("{} names, {content}", node.nlink))
    });
    tree.collect()
}

/// An order that explains what was seen.
pub(super) struct Order {
    /// Whether another order was possible.
    pub(super) is_free: bool,
}

struct Search<'a> {
    before: &'a [Call],
    done: &'a [Vec<Done>; 2],
    tree: &'a Tree,
    is_free: bool,
}

impl Order {
    pub(super) fn find(before: &[Call], done: &[Vec<Done>; 2], tree: &Tree) -> Option<Self> {
        let mut search = Search { before, done, tree, is_free: false };
        let is_found = search.goes_on(&mut Vec::new());
        is_found.then_some(Self { is_free: search.is_free })
    }
}

impl Search<'_> {
    /// Whether the order, of which these are the first steps, can be made whole.
    fn goes_on(&mut self, order: &mut Vec<usize>) -> bool {
        let Some(replay) = self.replay(order) else { return false };
        let next: Vec<_> = (0..2).filter(|&who| self.may_step(&replay, who)).collect();
        if next.is_empty() {
            return tree_of_model(&replay.fs) == *self.tree;
        }
        drop(replay);
        self.is_free |= next.len() > 1;
        next.into_iter().any(|who| {
            order.push(who);
            let goes_on = self.goes_on(order);
            order.pop();
            goes_on
        })
    }

    /// The model after these steps; nothing if it answers otherwise than was seen.
    fn replay(&self, order: &[usize]) -> Option<Replay> {
        let mut replay = Replay::new(self.before);
        for &who in order {
            let done = &self.done[who][replay.actors[who].calls];
            if let Some(said) = replay.step(who, &done.call)
                && said != done.said
            {
                return None;
            }
        }
        Some(replay)
    }

    /// Whether a process has a step to take, and no call of the other, which was over
    /// before this one began, is still to come.
    fn may_step(&self, replay: &Replay, who: usize) -> bool {
        let next = |who: usize| self.done[who].get(replay.actors[who].calls);
        let Some(mine) = next(who) else { return false };
        next(1 - who).is_none_or(|other| other.ended >= mine.began)
    }
}

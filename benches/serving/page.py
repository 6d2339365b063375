"""Turns measurements of servers into a page."""

import collections
import json
import statistics

import servers
from report import number, table, times

MB = 1e6
GIB = 1 << 30


def rate(result):
    return result["count"] / result["seconds"]


def mb_per_s(result):
    return result["bytes"] / MB / result["seconds"]


def cpu_per_gib(result):
    return result["server_cpu"] / result["bytes"] * GIB


def cpu_each_us(result):
    return result["server_cpu"] / result["count"] * 1e6


# (step, what it is, least ratio to the best peer)
STREAMS = [
    ("write", "write 512 MiB into a new file", 1.0),
    ("rewrite", "write 512 MiB over it", 1.0),
    ("read", "read 512 MiB", 1.0),
]
SMALL = {
    "nfs": [
        ("create_one", "create, one at a time", 1.0),
        ("create", "create", 1.0),
        ("getattr_one", "getattr, one at a time", None),
        ("getattr", "getattr", None),
        ("lookup", "lookup", None),
        ("small_write", "write 4 KiB and commit", None),
        ("small_read", "read 4 KiB somewhere", None),
        ("list", "names listed, with attributes", None),
        ("remove", "remove", None),
    ],
    "9p": [
        ("create_one", "walk, create, clunk, one at a time", 1.0),
        ("create", "walk, create, clunk", 1.0),
        ("getattr_one", "getattr, one at a time", None),
        ("getattr", "getattr", None),
        ("lookup", "walk, clunk", None),
        ("small_write", "walk, open, write 4 KiB, fsync, clunk", None),
        ("small_read", "read 4 KiB somewhere", None),
        ("list", "names listed", None),
        ("remove", "walk, remove", None),
    ],
}
MEMORY = [
    ("memory_small", "resident after the small files"),
    ("memory_streams", "resident after 512 MiB were written and read"),
    ("memory_peak_streams", "resident at most while they were"),
]
PROTOCOLS = {
    "nfs": (servers.Own, [servers.Nfsserve, servers.Nfs3Server, servers.Ganesha], [servers.OwnTmpfs],
            servers.Whole),
    "9p": (servers.OwnP9, [servers.Diod], [servers.OwnP9Short], servers.WholeP9),
}
# The peer whose CPU time a byte may cost half of.
HALVED = servers.Nfsserve.name

# How many cores others may keep busy before figures are worth little.
OTHERS_MAX = 0.1

# Why a target does not hold, by protocol, step and what is measured: from profiles.
REASONS = {}


class Results:
    def __init__(self, path):
        with open(path) as file:
            read = json.load(file)
        self.about, self.found, self.errors = read["about"], collections.defaultdict(list), []
        for run in read["runs"]:
            for key, result in run["results"].items():
                if key == "error":
                    self.errors.append((run["server"], run["group"]))
                else:
                    self.found[key, run["server"]].append(result)

    def others(self):
        """How many cores others kept busy, on average."""
        found = [one for (key, _), every in self.found.items() if key == "others" for one in every]
        return statistics.mean(found) if found else 0.0

    def median(self, key, server, of=lambda result: result):
        found = [of(result) for result in self.found.get((key, server.name), [])]
        return statistics.median(found) if found else None


class Section:
    """The tables of one protocol."""

    def __init__(self, results, protocol):
        self.results, self.protocol, self.missed = results, protocol, []
        self.own, self.peers, self.variants, self.whole = PROTOCOLS[protocol]
        self.columns = [self.own, *self.variants, *self.peers]

    def header(self, title, *more):
        names = [column.name.removesuffix(" 9p") for column in self.columns]
        return [title, *names, *more, "whole program"]

    def row(self, key, label, of, more, target):
        """Figures, the least ratio to a peer over the same kind of data, and whether that
        is enough."""
        ratios = []
        for peer in self.peers:
            own = self.results.median(key, peer.compared or self.own, of)
            theirs = self.results.median(key, peer, of)
            if own and theirs:
                ratios.append((own / theirs if more else theirs / own, peer.name))
        wanted, compared = "", "–"
        if ratios:
            ratio, name = min(ratios)
            compared = f"{times(ratio)} {name}"
            if target is not None:
                wanted = f"{target:.2f}× " + ("✓" if ratio >= target else "✗")
                if ratio < target:
                    self.missed.append((key, of, label, ratio))
        figures = [self.results.median(key, column, of) for column in [*self.columns, self.whole]]
        *figures, whole = map(number, figures)
        return [label, *figures, compared, wanted, whole]

    def speed(self):
        header = self.header("MB/s, 8 requests under way", "to the best peer", "wanted")
        streams = [self.row(key, label, mb_per_s, True, target) for key, label, target in STREAMS]
        out = [table(header, streams)]
        header[0] = "per second, 8 under way"
        small = [self.row(key, label, rate, True, target)
                 for key, label, target in SMALL[self.protocol]]
        return out + [table(header, small)]

    def per_byte(self):
        """CPU time per byte, held against `HALVED` where that speaks the protocol."""
        lines = []
        halved = next((peer for peer in self.peers if peer.name == HALVED), None)
        for key, label, _ in STREAMS:
            line = self.row(key, f"{label}, s per GiB", cpu_per_gib, False, None)
            if halved:
                own, theirs = (self.results.median(key, s, cpu_per_gib) for s in (self.own, halved))
                if own and theirs:
                    share = own / theirs
                    line[-3] = f"{times(share)} {HALVED}"
                    line[-2] = "at most 0.50× " + ("✓" if share <= 0.5 else "✗")
                    if share > 0.5:
                        self.missed.append((key, cpu_per_gib, label, share))
            lines.append(line)
        return lines

    def costs(self):
        lines = self.per_byte()
        for key, label, _ in SMALL[self.protocol]:
            lines.append(self.row(key, f"{label}, µs each", cpu_each_us, False, None))
        if not any(peer.name == HALVED for peer in self.peers):
            compared = "to the best peer"
        else:
            compared = f"to the best peer; per byte: of {HALVED}"
        out = [table(self.header("CPU time of the server", compared, "wanted"), lines)]
        lines = []
        for key, label in MEMORY:
            figures = [self.results.median(key, s) for s in [*self.columns, self.whole]]
            lines.append([f"{label}, MiB", *map(number, figures)])
        return out + [table(self.header("Memory"), lines)]

    def reasons(self):
        lines = []
        for key, of, label, ratio in self.missed:
            why = REASONS.get((self.protocol, key, of.__name__), "not looked into.")
            what = "CPU time" if of is cpu_per_gib else "speed"
            lines.append(f"* **{label}** ({what}: {times(ratio)}): {why}")
        return ["What does not hold, and why:\n\n" + "\n".join(lines) + "\n"] if lines else []

    def markdown(self):
        return "\n".join(self.speed() + self.costs() + self.reasons())


def markdown(path):
    results = Results(path)
    about = results.about
    out = [f"""# Benchmarks of the servers

`benches/serving/run` made this page on {about['date']}: {about['cores']} cores of {about['cpu']}, Linux {about['kernel']}. It measures the project's
servers of NFSv3 and 9P2000.L beside others. Medians of {about['repeat']} repetitions, run in turns on the same machine, by way of its loopback
interface. Machines differ and neighbours disturb: read ratios, not figures. Above 1 the project's server is better, in speed and in costs,
except where a column says "of".

One client asks every server of a protocol the same, over one connection, with eight requests under way where nothing else is said. It checks
all answers. It has one of the cores for itself, and a server that keeps both busy shares them with it. What it writes is random.

The column `tgcryptfs` is the protocol server alone, over a file system that holds names in memory and encrypts nothing. Over NFS it holds
data there too, in memory that is allocated and touched before anything is measured, and the crates `nfsserve` and `nfs3_server` stand before
the same one. It copies what is written; what is read it hands out by
reference to whoever can take that, and copies it for interfaces that want a vector, as those of both crates do. NFS-Ganesha and `diod`, as
Debian ships them, serve a directory on tmpfs; with them the project's servers are compared over data in files on tmpfs, which costs a system
call for each read and write (NFS: column `over tmpfs`; 9P: both columns). "Whole program" is `tgcryptfs serve` with a directory store on
tmpfs, so it encrypts, compresses, deduplicates and keeps a journal; nothing is wanted of it here.
"""]
    if results.others() > OTHERS_MAX:
        out.append(f"**Others kept {results.others():.1f} cores busy meanwhile, so speeds are worth little here; CPU times are worth more.**\n")
    titles = {
        "nfs": ("NFSv3", "Reads and writes are as long as a server allows, at most 1 MiB, and unstable; the time includes the commit that\n"
                "makes them stable. `nfsserve` answers that all is stable at once, so it is never asked to commit."),
        "9p": ("9P2000.L", "Messages are as long as a server allows, at most 1 MiB; `diod` allows 64 KiB. So there is a column for the\n"
               "project's server with messages of 64 KiB. The time to write includes an fsync."),
    }
    for protocol, (title, explained) in titles.items():
        out.append(f"## {title}\n\n{explained}\n\n" + Section(results, protocol).markdown())
    out.append("What the file system in memory holds is left out of the memory of those that hold it.\n")
    if results.errors:
        failed = "; ".join(f"{server} in {group}" for server, group in sorted(set(results.errors)))
        out.append(f"Failed runs: {failed}\n")
    return "\n".join(out)

"""Turns measurements into a page: medians, ratios, and which targets hold."""

import collections
import json
import statistics

from systems import ALL

SELF, FLOOR = "tgcryptfs", "passthrough"
PEERS = [name for name, system in ALL.items() if system.encrypts and name != SELF]

# Targets that compare with something else than the fastest encrypting peer: (key, with which
# system, on which medium) and the least ratio.
OTHER_TARGETS = {
    ("seq_write", FLOOR, "tmpfs"): 0.75,
    ("seq_write_compressible", FLOOR, "tmpfs"): 0.75,
    ("random_fsync", "plain", "disk"): 0.80,
}
# What is measured in each group, and so more often than the groups are repeated.
OF_ALL_GROUPS = ("mount", "memory_peak", "memory_budget")
# What older results call a file system, which `stat -f` cannot tell apart.
OLD_BASES = {"ext2/ext3": "ext2, ext3 or ext4"}
# The most CPU time for a key, as a multiple of the passthrough's.
CPU_TARGETS = {"seq_write": 1.3}
# The most bytes for each byte.
SPACE_TARGETS = {"stored_copy": 0.01, "written_write": 1.1, "written_write_compressible": 1.1}

# (key, what it is, unit, whether more is better, least ratio to the fastest encrypting peer)
ROWS = {
    "Streams": [
        ("seq_write", "write 1 GiB that does not compress, fsync", "MB/s", True, 1.6),
        ("seq_write_compressible", "write 1 GiB that compresses to a third, fsync", "MB/s", True, 1.6),
        ("seq_read_cold", "read it after remounting", "MB/s", True, 1.0),
        ("seq_read_warm", "read it again", "MB/s", True, None),
        ("copy", "`cp` of 1 GiB inside the mount, syncfs", "s", False, None),
    ],
    "Random access, 4 KiB at a time": [
        ("random_read_cold", "read after remounting", "per s", True, None),
        ("random_read_cold_latency", "the same, median latency", "µs", False, 1.0),
        ("random_read_warm", "read again", "per s", True, None),
        ("random_write", "write, one fsync at the end", "per s", True, None),
        ("random_fsync", "write and fsync each", "per s", True, None),
        ("random_fsync_latency", "the same, median latency", "µs", False, None),
    ],
    "5,000 files of 4 KiB": [
        ("small_create", "create, write, close", "per s", True, 2.0),
        ("small_stat_cold", "stat after remounting", "per s", True, 1.1),
        ("small_stat_warm", "stat again", "per s", True, None),
        ("small_list", "list and stat", "per s", True, None),
        ("small_read_cold", "open, read, close after remounting", "per s", True, 1.5),
        ("small_read_warm", "the same again", "per s", True, None),
        ("small_rename", "rename", "per s", True, 1.1),
        ("small_unlink", "unlink", "per s", True, 1.1),
    ],
    "Real work": [
        ("tree_copy", "`cp -r` of a source tree, syncfs", "s", False, None),
        ("tree_du", "`du -s`", "s", False, None),
        ("tree_grep_cold", "`grep -r` after remounting", "s", False, None),
        ("tree_grep_warm", "`grep -r` again", "s", False, None),
        ("tree_remove", "`rm -r`", "s", False, None),
        ("tree_untar", "untar it, syncfs", "s", False, 1 / 0.6),
        ("git_clone", "`git clone`", "s", False, 1 / 0.8),
        ("git_status", "`git status`", "s", False, 1 / 0.8),
        ("git_status_cold", "`git status` after remounting", "s", False, 1 / 0.8),
        ("git_checkout", "`git checkout` of an old commit", "s", False, 1 / 0.8),
        ("sqlite_delete", "SQLite transactions of 10 rows, rollback journal", "per s", True, 2.0),
        ("sqlite_wal", "the same, write-ahead log", "per s", True, 2.0),
    ],
}
CPU_ROWS = [
    ("seq_write", "write, not compressible", 1, "CPU-s per GiB"),
    ("seq_write_compressible", "write, compressible", 1, "CPU-s per GiB"),
    ("seq_read_cold", "read after remounting", 1, "CPU-s per GiB"),
    ("random_fsync", "4 KiB write and fsync", 1e6, "CPU-µs each"),
    ("small_create", "create, write, close", 1e6, "CPU-µs each"),
    ("small_stat_cold", "stat after remounting", 1e6, "CPU-µs each"),
    ("small_read_cold", "open, read, close after remounting", 1e6, "CPU-µs each"),
    ("small_unlink", "unlink", 1e6, "CPU-µs each"),
]
SPACE_ROWS = [
    ("stored_write", "stored of 1 GiB that does not compress", "{:.3f}"),
    ("stored_write_compressible", "stored of 1 GiB that compresses to a third", "{:.3f}"),
    ("stored_copy", "stored of a second copy of 1 GiB", "{:.5f}"),
    ("written_write", "written to the disk, store and local files, for 1 GiB that does not compress", "{:.3f}"),
    ("written_write_compressible", "the same for 1 GiB that compresses to a third", "{:.3f}"),
]


class Results:
    """All that was measured on one medium."""

    def __init__(self, path):
        with open(path) as file:
            read = json.load(file)
        self.about, self.found = read["about"], collections.defaultdict(list)
        self.errors = []
        for one in read["runs"]:
            for key, result in one["results"].items():
                if key == "error":
                    self.errors.append((one["system"], one["group"], result))
                else:
                    self.found[key, one["system"]].append(result)

    def repetitions(self):
        """How often everything was measured, in words."""
        counts = {len(found) for (key, _), found in self.found.items() if key not in OF_ALL_GROUPS}
        least, most = min(counts, default=0), max(counts, default=0)
        return f"{least}" if least == most else f"{least} to {most}"

    def median(self, key, system, of=lambda result: result["figure"]):
        found = [of(result) for result in self.found.get((key, system), [])]
        return statistics.median(found) if found else None

    def peak(self, system):
        found = [result["figure"] for result in self.found.get(("memory_peak", system), [])]
        return max(found) if found else None

    def memory_budget(self):
        """The most MiB that it may have in memory; nothing for results that do not say."""
        found = [result["figure"] for result in self.found.get(("memory_budget", SELF), [])]
        return min(found) if found else None

    def ratio(self, key, other, more):
        """How many times as good as `other`."""
        own, theirs = self.median(key, SELF), self.median(key, other)
        if not own or not theirs:
            return None
        return own / theirs if more else theirs / own

    def best_peer(self, key, more):
        ratios = {peer: self.ratio(key, peer, more) for peer in PEERS}
        ratios = {peer: ratio for peer, ratio in ratios.items() if ratio}
        return min(ratios.items(), key=lambda one: one[1]) if ratios else (None, None)


def number(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def times(ratio):
    return f"{ratio:.2f}×" if ratio else "–"


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def verdict(ratio, target):
    return f"{target:.2f}× " + ("✓" if ratio and ratio >= target else "✗")


def speed(results):
    names = list(ALL)
    medium = "tmpfs" if results.about["base"] == "tmpfs" else "disk"
    out = []
    for title, rows in ROWS.items():
        lines = []
        for key, label, unit, more, target in rows:
            if results.median(key, SELF) is None:
                continue
            peer, ratio = results.best_peer(key, more)
            wanted = "" if target is None else verdict(ratio, target)
            figures = [number(results.median(key, name)) for name in names]
            others = []
            for other in (FLOOR, "plain"):
                least = OTHER_TARGETS.get((key, other, medium))
                found = results.ratio(key, other, more)
                others.append(times(found) + (f", wanted {verdict(found, least)}" if least else ""))
            lines.append([f"{label}, {unit}", *figures, f"{times(ratio)} {peer or ''}", wanted, *others])
        header = [title, *names, "to the best peer", "wanted", f"to {FLOOR}", "to plain"]
        if lines:
            out.append(table(header, lines))
    return "\n".join(out)


def costs(results):
    names = [name for name in ALL if name != "plain"]
    lines = []
    for key, label, scale, unit in CPU_ROWS:
        def each(result):
            count = 1 if scale == 1 else result["count"]
            return (result["daemon_cpu"] + result["client_cpu"]) / count * scale
        own, floor = results.median(key, SELF, each), results.median(key, FLOOR, each)
        if own is not None:
            most, note = CPU_TARGETS.get(key), ""
            if most and floor:
                found = own / floor
                note = f" ({found:.2f}× {FLOOR}, wanted at most {most:.1f}× {'✓' if found <= most else '✗'})"
            lines.append([f"{label}, {unit}{note}"] + [number(results.median(key, n, each)) for n in names])
    for key, label in (("memory_small", "after 5,000 creates"), ("memory_write", "after writing 1 GiB")):
        if results.median(key, SELF) is not None:
            lines.append([f"resident {label}, MiB"] + [number(results.median(key, n)) for n in names])
    budget, note = results.memory_budget(), ""
    if budget:
        note = f" ({SELF} within its budget of {budget:.0f} {'✓' if is_within_memory(results) else '✗'})"
    lines.append([f"resident at most, MiB{note}"] + [number(results.peak(n)) for n in names])
    for key, label, form in SPACE_ROWS:
        figures = [results.median(key, n) for n in names]
        if figures[-1] is None or (key.startswith("written") and results.about["base"] == "tmpfs"):
            continue
        most, note = SPACE_TARGETS.get(key), ""
        if most:
            note = f" (wanted at most {most:.2f} {'✓' if figures[-1] <= most else '✗'})"
        lines.append([f"{label}, per byte{note}"]
                     + ["–" if figure is None else form.format(figure) for figure in figures])
    lines.append(["mount, s"] + [number(results.median("mount", n)) for n in names])
    return table(["Costs (client and server together)", *names], lines)


def is_within_memory(results):
    """Whether it kept to its budget, or nobody said what that is."""
    budget, peak = results.memory_budget(), results.peak(SELF)
    return budget is None or (peak is not None and peak <= budget)


def memory_problems(paths):
    """What is to be told of runs that took more memory than they may."""
    problems = []
    for path in paths:
        results = Results(path)
        if not is_within_memory(results):
            budget, peak = results.memory_budget(), number(results.peak(SELF))
            problems.append(f"{path}: {SELF} had {peak} MiB in memory, and may have {budget:.0f}: "
                            "cache.memory_max and the fixed part that docs/SEMANTICS.md names")
    return problems


def markdown(paths):
    results = [Results(path) for path in paths]
    about = results[0].about
    out = [f"""# Benchmarks

`benches/peers/run` made this page on {about['date']}: {about['cores']} cores of {about['cpu']}, Linux {about['kernel']}. It measures tgcryptfs over a
directory store beside the same directory without anything (`plain`), libfuse's `passthrough_ll` with the write-back cache (what FUSE itself
costs), and the encrypting file systems gocryptfs and securefs as Debian ships them: these two are all the peers there are here, no other was
measured, and no target is about another. Medians of several repetitions, run in turns on the
same machine. Machines differ and neighbours disturb: read ratios, not figures. "To the best peer" compares with whichever encrypting peer does
best on that line; above 1 tgcryptfs is better. [BENCHMARKS-SERVING](BENCHMARKS-SERVING.md),
made by `benches/serving/run`, is about the servers of NFS and 9P.
"""]
    for one in results:
        base = OLD_BASES.get(one.about["base"], one.about["base"])
        title = "In memory" if base == "tmpfs" else f"On disk ({base})"
        explained = {
            "In memory": "Everything lies on tmpfs, so software is compared, not disks. \"After remounting\" means that all caches of the "
                         "program are cold.",
        }.get(title, "What an fsync costs shows only on a real disk.")
        explained += f" Medians of {one.repetitions()} repetitions."
        out += [f"## {title}\n\n{explained}\n", speed(one), costs(one)]
        if one.errors:
            out.append("Failed runs: " + "; ".join(f"{s} in {g}" for s, g, _ in one.errors) + "\n")
    return "\n".join(out)

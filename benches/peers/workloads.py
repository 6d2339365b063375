"""What is measured, in groups that each start on an empty file system.

A step has a key, by which the report finds it. It gives a figure (a rate, or nothing if
the seconds are the figure) and how many bytes or operations its CPU time is spread over.
"""

import os
import random
import sqlite3

from systems import run

MIB = 1 << 20
GIB = 1 << 30
SMALL_FILES, SMALL_DIRS, SMALL_LEN = 5000, 50, 4096
RANDOM_LEN_MIB, RANDOM_COUNT, FSYNC_COUNT = 64, 4096, 256
TRANSACTIONS, ROWS_EACH = 200, 10


def sequential(at):
    path = at.mount + "/data"
    for key, randomness in (("write", 4), ("write_compressible", 1)):
        before, written_before = at.system.stored(), at.system.written()
        at.stream("seq_" + key, path, "write", "1024", str(randomness))
        at.note("stored_" + key, (at.system.stored() - before) / GIB)
        at.note("written_" + key, (at.system.written() - written_before) / GIB)
        at.note("memory_" + key, at.system.memory_mib())
        if key != "write":
            os.unlink(path)
        else:
            path = at.mount + "/data2"
    path = at.mount + "/data"
    at.remount()
    at.stream("seq_read_cold", path, "read")
    at.stream("seq_read_warm", path, "read")
    before = at.system.stored()
    at.step("copy", lambda: run(f"cp {path} {path}.copy && sync -f {path}.copy"), count=GIB)
    at.note("stored_copy", (at.system.stored() - before) / GIB)


def small_random(at):
    path = at.mount + "/random"
    run([at.tool("stream"), path, "write", str(RANDOM_LEN_MIB), "4"])
    at.remount()
    at.random("random_read_cold", path, "read", RANDOM_COUNT)
    run([at.tool("stream"), path, "read"])
    at.random("random_read_warm", path, "read", RANDOM_COUNT)
    at.random("random_write", path, "write", RANDOM_COUNT)
    at.random("random_fsync", path, "fsync", FSYNC_COUNT)


def small_files(at):
    def files(key, operation):
        arguments = [operation, SMALL_DIRS, SMALL_FILES, SMALL_LEN]
        command = [at.tool("files"), at.mount, *map(str, arguments)]
        at.step(key, lambda: float(run(command)), count=SMALL_FILES)

    files("small_create", "create")
    at.note("memory_small", at.system.memory_mib())
    at.remount()
    files("small_stat_cold", "stat")
    files("small_stat_warm", "stat")
    files("small_list", "readdir")
    at.remount()
    files("small_read_cold", "read")
    files("small_read_warm", "read")
    files("small_rename", "rename")
    files("small_unlink", "unlink")


def tree(at):
    source, target = at.data + "/tree", at.mount + "/tree"
    at.step("tree_copy", lambda: run(f"cp -r {source} {target} && sync -f {target}"))
    at.step("tree_du", lambda: run(f"du -s {target}"))
    at.remount()
    at.step("tree_grep_cold", lambda: run(f"grep -r zzqqxx {target}", check=False))
    at.step("tree_grep_warm", lambda: run(f"grep -r zzqqxx {target}", check=False))
    at.step("tree_remove", lambda: run(f"rm -r {target}"))
    os.mkdir(target)
    at.step("tree_untar", lambda: run(f"tar xf {source}.tar -C {target} && sync -f {target}"))


def git(at):
    clone = at.mount + "/clone"
    repository = at.data + "/repository.git"
    at.step("git_clone", lambda: run(f"git clone -q --no-hardlinks {repository} {clone}"))
    at.step("git_status", lambda: run(f"git -C {clone} status --porcelain"))
    at.remount()
    at.step("git_status_cold", lambda: run(f"git -C {clone} status --porcelain"))
    at.step("git_checkout", lambda: run(f"git -C {clone} checkout -q HEAD~100"))


def database(at):
    def transactions(mode):
        connection = sqlite3.connect(f"{at.mount}/{mode}.db", isolation_level=None)
        connection.execute(f"pragma journal_mode={mode}")
        connection.execute("pragma synchronous=full")
        connection.execute("create table t(id integer primary key, a text, b blob)")
        connection.execute("create index i on t(a)")
        bits = random.Random(1)
        for _ in range(TRANSACTIONS):
            connection.execute("begin")
            for _ in range(ROWS_EACH):
                row = (f"k{bits.getrandbits(32):08x}", bits.randbytes(200))
                connection.execute("insert into t(a, b) values (?, ?)", row)
            connection.execute("commit")
        assert connection.execute("select count(*) from t").fetchone()[0] == TRANSACTIONS * ROWS_EACH
        connection.close()

    for mode in ("delete", "wal"):
        done = at.step("sqlite_" + mode, lambda: transactions(mode), count=TRANSACTIONS)
        done["figure"] = TRANSACTIONS / done["seconds"]


GROUPS = {
    "sequential": sequential, "random": small_random, "small": small_files,
    "tree": tree, "git": git, "database": database,
}

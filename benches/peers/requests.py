#!/usr/bin/env python3
"""Shows what a mount's time goes to, request by request.

    requests.py --tools DIR --data DIR --tgcryptfs PROGRAM [--system NAME] [--base DIR]

For each operation: which requests the kernel sends, how many per operation, how long the
daemon takes for one (from sending to answer, median; and for all where it is done once),
and how long until the program
sends the next (waking it up, mostly). Reads the kernel's own trace points, so it needs
root; `benches/peers/run` makes the tools and the data.
"""

import argparse
import collections
import os
import re
import statistics

import systems

TRACING = "/sys/kernel/tracing"
SENT = re.compile(r"\s(\d+\.\d+): fuse_request_send: connection (\d+) req (\d+) opcode \d+ \(FUSE_(\w+)\)")
ENDED = re.compile(r"\s(\d+\.\d+): fuse_request_end: connection (\d+) req (\d+)")
FILES = (20, 2000, 4096)


def knob(name, value):
    with open(f"{TRACING}/{name}", "w") as file:
        file.write(value)


def traced(command):
    """Runs a command and gives the trace of all requests meanwhile."""
    knob("buffer_size_kb", "65536")
    knob("trace", "")
    knob("events/fuse/enable", "1")
    try:
        systems.run(command)
    finally:
        knob("events/fuse/enable", "0")
    with open(f"{TRACING}/trace") as file:
        return file.read()


def summarise(trace, connection):
    """Service times and the gaps behind them, in microseconds, by kind of request."""
    open_requests, last = {}, None
    service, gap = collections.defaultdict(list), collections.defaultdict(list)
    for line in trace.splitlines():
        if (sent := SENT.search(line)) and sent[2] == connection:
            time = float(sent[1])
            open_requests[sent[3]] = (time, sent[4])
            if last:
                gap[last[1]].append((time - last[0]) * 1e6)
            last = None
        elif (ended := ENDED.search(line)) and ended[2] == connection and ended[3] in open_requests:
            began, kind = open_requests.pop(ended[3])
            last = (float(ended[1]), kind)
            service[kind].append((last[0] - began) * 1e6)
    return service, gap


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--tgcryptfs", required=True)
    parser.add_argument("--system", default="tgcryptfs", choices=systems.ALL)
    parser.add_argument("--base", default="/dev/shm/tgcryptfs-requests")
    options = parser.parse_args()
    if not os.path.isdir(f"{TRACING}/events"):
        systems.run(["mount", "-t", "tracefs", "tracefs", TRACING])
    system = systems.ALL[options.system](options.base, options.tools, options.tgcryptfs)
    system.fresh()
    try:
        small = [f"{options.tools}/files", system.mount]
        sizes = [str(number) for number in FILES]
        data = f"{system.mount}/data"
        systems.run([f"{options.tools}/stream", data, "write", "64", "4"])

        def show(title, command, count, remount=False):
            if remount:
                system.remount()
            connection = str(os.minor(os.stat(system.mount).st_dev))
            service, gap = summarise(traced(command), connection)
            print(f"\n{title}")
            for kind, times in sorted(service.items(), key=lambda one: -len(one[1])):
                if len(times) * 20 < count:
                    continue
                after = statistics.median(gap[kind]) if gap[kind] else 0
                in_all = f"   in all {sum(times) / 1e3:7.1f} ms, then {sum(gap[kind]) / 1e3:7.1f}" if count == 1 else ""
                print(f"  {kind:<12} {len(times) / count:5.2f} each   {statistics.median(times):7.1f} µs"
                      f"   then {after:6.1f} µs{in_all}")

        show("create, write 4 KiB, close", [*small, "create", *sizes], FILES[1])
        show("stat, cold", [*small, "stat", *sizes], FILES[1], remount=True)
        show("open, read 4 KiB, close, cold", [*small, "read", *sizes], FILES[1])
        show("rename", [*small, "rename", *sizes], FILES[1])
        show("unlink", [*small, "unlink", *sizes], FILES[1])
        show("read 4 KiB at random, cold", [f"{options.tools}/random", data, "read", "2000"], 2000, True)
        show("write 4 KiB at random and fsync", [f"{options.tools}/random", data, "fsync", "1000"], 1000)
        clone = f"{system.mount}/clone"
        systems.run(["git", "clone", "-q", "--no-hardlinks", f"{options.data}/repository.git", clone])
        status = ["git", "-C", clone, "status", "--porcelain"]
        show("git status after a clone, all in all", status, 1)
        show("git status after remounting, all in all", status, 1, remount=True)
        tree = f"{system.mount}/tree"
        os.mkdir(tree)
        untar = f"tar xf {options.data}/tree.tar -C {tree} && sync -f {tree}"
        show("untar a source tree, syncfs, all in all", untar, 1)
        files = sum(len(names) for _, _, names in os.walk(tree))
        print(f"  {files} files")
        show("write 256 MiB", [f"{options.tools}/stream", data, "write", "256", "4"], 256)
    finally:
        system.stop()
        system.discard()


if __name__ == "__main__":
    main()

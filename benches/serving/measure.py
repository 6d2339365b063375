#!/usr/bin/env python3
"""Measures servers of NFSv3 and 9P2000.L beside their peers, in turns.

    measure.py measure [--servers A,B] [--groups A,B] [--repeat N] --serving P --tgcryptfs P RESULTS.json
    measure.py report RESULTS.json > docs/BENCHMARKS-SERVING.md

`benches/serving/run` prepares all it needs and calls both. Each group of steps starts
with a new server over an empty file system.
"""

import argparse
import json
import os
import sys
import time
import traceback

# What is shared with the benchmarks of mounted file systems.
sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../peers"))

import bench  # noqa: E402
import page  # noqa: E402
import servers  # noqa: E402
import systems  # noqa: E402

GROUPS = ("streams", "small")
# What the file system in memory allocates at its start, and small files on top of it.
DATA_MIB = {"streams": 512, "small": 512 + 20}


def used_seconds(server_pid):
    """CPU seconds of a server and of all loads so far."""
    return systems.cpu_of(server_pid) + bench.client_cpu_seconds()


def measure_one(server, group):
    """All steps of a group on one server."""
    results = {}
    try:
        server.start()
        pid = server.process.pid
        busy, started = bench.busy_seconds() - used_seconds(pid), time.monotonic()
        lines, error = server.load(group)
        others = bench.busy_seconds() - used_seconds(pid) - busy
        results["others"] = max(0.0, others) / (time.monotonic() - started)
        for line in lines:
            step = json.loads(line)
            results[step.pop("step")] = step
            print(f"  {line}", flush=True)
        if error:
            raise RuntimeError(error)
        data = DATA_MIB[group] if server.holds_data else 0
        for key, field in (("memory", "VmRSS"), ("memory_peak", "VmHWM")):
            results[f"{key}_{group}"] = server.memory_mib(field) - data
    except Exception:
        # What was measured before still counts, and the others go on.
        traceback.print_exc()
        results["error"] = traceback.format_exc(limit=1)
    server.stop()
    server.discard()
    return results


def measure(options):
    os.makedirs(options.base, exist_ok=True)
    names, runs = options.servers.split(","), []
    for repetition in range(options.repeat):
        bench.touch_memory(options.base)
        for group in options.groups.split(","):
            turn = repetition % len(names)
            for name in names[turn:] + names[:turn]:
                print(f"== {group} on {name}, {repetition + 1} of {options.repeat}", flush=True)
                results = measure_one(servers.ALL[name](options.base, options), group)
                runs.append({"server": name, "group": group, "results": results})
                with open(options.results, "w") as file:
                    json.dump({"about": bench.about(options), "runs": runs}, file, indent=1)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("measure")
    command.add_argument("--servers", default=",".join(servers.ALL))
    command.add_argument("--groups", default=",".join(GROUPS))
    command.add_argument("--repeat", type=int, default=3)
    command.add_argument("--base", default="/dev/shm/tgcryptfs-serving")
    command.add_argument("--serving", required=True)
    command.add_argument("--tgcryptfs", required=True)
    command.add_argument("results")
    command = commands.add_parser("report")
    command.add_argument("results")
    options = parser.parse_args()
    if options.command == "measure":
        measure(options)
    else:
        sys.stdout.write(page.markdown(options.results))


if __name__ == "__main__":
    main()

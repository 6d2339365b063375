#!/usr/bin/env python3
"""Measures tgcryptfs beside its peers, in turns, and writes the results down.

    bench.py measure [--systems A,B] [--groups A,B] [--repeat N] [--base DIR] RESULTS.json
    bench.py report MEMORY.json [DISK.json] > docs/BENCHMARKS.md

`benches/peers/run` prepares all it needs and calls both. Every repetition runs every
group on every system, one after another in an order that rotates, so that what else
happens on the machine falls on all of them.

Both fail if tgcryptfs had more in memory than its configuration and docs/SEMANTICS.md let it
have: when all is measured, with status 3, or reported.
"""

import argparse
import json
import os
import resource
import sys
import time
import traceback

import report
import systems
import workloads


# The exit status of `measure` if all was measured but took too much memory.
OVER_MEMORY = 3


class Place:
    """A mounted system under test, and what was measured on it."""

    def __init__(self, system, tools, data):
        self.system, self.tools, self.data, self.results = system, tools, data, {}

    @property
    def mount(self):
        return self.system.mount

    def tool(self, name):
        return os.path.join(self.tools, name)

    def note(self, key, figure):
        self.results[key] = {"figure": figure}

    def remount(self):
        self.note("mount", self.system.remount())

    def step(self, key, work, count=1):
        """Runs `work` and notes its figure, seconds, and CPU seconds per thing counted."""
        daemon, client = self.system.cpu_seconds(), client_cpu_seconds()
        others, started = busy_seconds(), time.monotonic()
        figure = work()
        seconds = time.monotonic() - started
        daemon, client = self.system.cpu_seconds() - daemon, client_cpu_seconds() - client
        others = max(0.0, busy_seconds() - others - daemon - client) / max(seconds, 0.01)
        done = {
            "figure": figure if isinstance(figure, float) else seconds, "seconds": seconds,
            "daemon_cpu": daemon, "client_cpu": client, "count": count, "others": others,
        }
        self.results[key] = done
        print(f"  {self.system.name:12} {key:24} {done['figure']:10.2f}  {seconds:7.3f} s  cpu "
              f"{daemon:6.2f} + {client:5.2f}  others {others:4.2f}", flush=True)
        return done

    def stream(self, key, path, *arguments):
        printed = []

        def work():
            printed.extend(map(float, systems.run([self.tool("stream"), path, *arguments]).split()))
            return printed[0]

        done = self.step(key, work, count=workloads.GIB)
        done["client_cpu"] -= printed[1]

    def random(self, key, path, mode, count):
        printed = []

        def work():
            command = [self.tool("random"), path, mode, str(count)]
            printed.extend(map(float, systems.run(command).split()))
            return printed[0]

        self.step(key, work, count=count)
        self.note(key + "_latency", printed[1])


def touch_memory(base):
    """Makes the host give this machine the memory that a tmpfs will need, before it counts."""
    path = os.path.join(base, "touched")
    systems.run(["dd", "if=/dev/zero", f"of={path}", "bs=1M", "count=4096"])
    os.unlink(path)


def client_cpu_seconds():
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def busy_seconds():
    """CPU seconds spent by everybody on this machine."""
    with open("/proc/stat") as stat:
        ticks = list(map(int, stat.readline().split()[1:9]))
    return (sum(ticks) - ticks[3] - ticks[4]) / systems.CLOCK_TICK_HZ


def measure(options):
    os.makedirs(options.base, exist_ok=True)
    names, groups = options.systems.split(","), options.groups.split(",")
    runs = []
    for repetition in range(options.repeat):
        for group in groups:
            turn = repetition % len(names)
            for name in names[turn:] + names[:turn]:
                system = systems.ALL[name](options.base, options.tools, options.tgcryptfs)
                place = Place(system, options.tools, options.data)
                print(f"== {group} on {name}, {repetition + 1} of {options.repeat}", flush=True)
                try:
                    touch_memory(options.base)
                    system.fresh()
                    if system.memory_budget_mib is not None:
                        place.note("memory_budget", system.memory_budget_mib)
                    workloads.GROUPS[group](place)
                    system.stop()
                    place.note("memory_peak", system.peak_mib)
                except Exception:
                    # What was measured before still counts, and the others go on.
                    traceback.print_exc()
                    place.results["error"] = traceback.format_exc(limit=1)
                    systems.run(["umount", "-l", system.mount], check=False)
                    system.process and system.process.kill()
                system.discard()
                runs.append({"system": name, "group": group, "results": place.results})
                with open(options.results, "w") as file:
                    json.dump({"about": about(options), "runs": runs}, file, indent=1)


def about(options):
    with open("/proc/cpuinfo") as info:
        model = next(line.split(":")[1].strip() for line in info if line.startswith("model name"))
    kind = systems.run(["findmnt", "-no", "FSTYPE", "-T", options.base]).strip()
    return {
        "date": time.strftime("%Y-%m-%d"), "cpu": model, "cores": os.cpu_count(),
        "kernel": os.uname().release, "base": kind, "repeat": options.repeat,
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("measure")
    command.add_argument("--systems", default=",".join(systems.ALL))
    command.add_argument("--groups", default=",".join(workloads.GROUPS))
    command.add_argument("--repeat", type=int, default=3)
    command.add_argument("--base", default="/dev/shm/tgcryptfs-bench")
    command.add_argument("--tools", required=True)
    command.add_argument("--data", required=True)
    command.add_argument("--tgcryptfs", required=True)
    command.add_argument("results")
    command = commands.add_parser("report")
    command.add_argument("results", nargs="+")
    options = parser.parse_args()
    if options.command == "measure":
        measure(options)
        problems, status = report.memory_problems([options.results]), OVER_MEMORY
    else:
        sys.stdout.write(report.markdown(options.results))
        problems, status = report.memory_problems(options.results), 1
    if problems:
        print("\n".join(problems), file=sys.stderr)
        sys.exit(status)


if __name__ == "__main__":
    main()

"""The file systems that are compared: how each is made, mounted and taken off."""

import json
import os
import re
import shutil
import subprocess
import time

CLOCK_TICK_HZ = os.sysconf("SC_CLK_TCK")
# What tgcryptfs may have in memory besides `cache.memory_max`: docs/SEMANTICS.md, "When there
# is much".
MEMORY_FIXED_MIB = 192


def run(command, check=True, **options):
    """Runs a command to its end and gives what it printed."""
    done = subprocess.run(
        command, shell=isinstance(command, str), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    if check and done.returncode:
        raise RuntimeError(f"{command}: exit {done.returncode}: {done.stdout[-800:]}")
    return done.stdout


def is_mounted(path):
    with open("/proc/self/mounts") as table:
        return any(line.split()[1] == path for line in table)


class System:
    """One file system over a directory of its own below `base`."""

    name = "?"
    encrypts = True

    def __init__(self, base, tools, binary):
        self.home = os.path.join(base, self.name)
        self.mount = os.path.join(self.home, "mount")
        self.store = os.path.join(self.home, "store")
        self.tools, self.binary, self.process = tools, binary, None
        # The most that one of its daemons had in memory before it was stopped, MiB, and
        # the most that it promises to have, if it does.
        self.peak_mib, self.memory_budget_mib = 0, None

    # What differs between systems.

    def make(self):
        """Makes an empty file system in `store`."""

    def command(self):
        """The command that serves the mount in the foreground."""
        raise NotImplementedError

    def environment(self):
        return dict(os.environ)

    def settle(self):
        """Returns when all data is in `store`."""
        run(["sync", "-f", self.mount])

    def take_off(self):
        for _ in range(100):
            if not is_mounted(self.mount):
                return
            subprocess.run(["fusermount3", "-u", self.mount], capture_output=True)
            time.sleep(0.1)
        raise RuntimeError(f"{self.mount} stays mounted")

    # What is common.

    def fresh(self):
        self.stop()
        self.discard()
        for path in (self.mount, self.store):
            os.makedirs(path)
        self.make()
        self.start()

    def discard(self):
        shutil.rmtree(self.home, ignore_errors=True)

    def start(self):
        """Mounts; gives how many seconds it took."""
        started = time.monotonic()
        log = open(os.path.join(self.home, "log"), "ab")
        self.process = subprocess.Popen(
            self.command(), env=self.environment(), stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True)
        while not is_mounted(self.mount):
            if self.process.poll() is not None or time.monotonic() > started + 60:
                raise RuntimeError(f"{self.name} does not mount, see {self.home}/log")
            time.sleep(0.005)
        took = time.monotonic() - started
        time.sleep(0.2)
        return took

    def stop(self):
        if self.process is None:
            return
        self.peak_mib = max(self.peak_mib, self.memory_mib("VmHWM"))
        self.take_off()
        self.process.wait(120)
        self.process = None

    def remount(self):
        """Empties every cache that a new start empties; gives the seconds a mount takes."""
        self.settle()
        self.stop()
        drop_caches()
        return self.start()

    def pids(self):
        if self.process is None:
            return []
        children = run(["pgrep", "-P", str(self.process.pid)], check=False).split()
        return [self.process.pid, *map(int, children)]

    def cpu_seconds(self):
        return sum(cpu_of(pid) for pid in self.pids())

    def memory_mib(self, field="VmRSS"):
        return sum(memory_of(pid, field) for pid in self.pids()) / 1024

    def written(self):
        """Bytes that its processes have given the system to write to disks."""
        return sum(io_of(pid, "write_bytes") for pid in self.pids())

    def stored(self):
        self.settle()
        return int(run(["du", "-s", "-B1", self.store]).split()[0])


class Plain(System):
    """The directory itself: what the machine can do."""

    name = "plain"
    encrypts = False

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.mount = self.store

    def fresh(self):
        self.discard()
        os.makedirs(self.store)

    def settle(self):
        run(["sync", "-f", self.store])

    def remount(self):
        self.settle()
        drop_caches()
        return 0.0

    def stop(self):
        pass


class Passthrough(System):
    """libfuse's passthrough with the write-back cache: what FUSE itself costs."""

    name = "passthrough"
    encrypts = False

    def command(self):
        options = f"source={self.store},cache=always,writeback"
        return [f"{self.tools}/passthrough_ll", "-f", "-o", options, self.mount]


class Gocryptfs(System):
    name = "gocryptfs"

    def make(self):
        run(["gocryptfs", "-q", "-init", "-scryptn", "12", "-extpass", "echo pw", self.store])

    def command(self):
        return ["gocryptfs", "-q", "-fg", "-extpass", "echo pw", self.store, self.mount]


class Securefs(System):
    name = "securefs"

    def make(self):
        run(["securefs", "create", "--pass", "pw", "--pbkdf", "pkcs5-pbkdf2-hmac-sha256",
             "-r", "1000", self.store])

    def command(self):
        return ["securefs", "mount", "--pass", "pw", self.store, self.mount]


class Tgcryptfs(System):
    name = "tgcryptfs"

    def environment(self):
        kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
        return {**kept, "HOME": self.home, "TGCRYPTFS_PASSWORD_FILE": f"{self.home}/password"}

    def tell(self, *arguments):
        return run([self.binary, *arguments], env=self.environment())

    def make(self):
        with open(os.open(f"{self.home}/password", os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write("a password for benchmarks\n")
        self.tell("init", "--store", f"file://{self.store}")
        shown = self.tell("config", "show", "--json")
        # Without what is said beside it.
        shown = json.loads(shown[shown.index("{"):shown.rindex("}") + 1])
        memory_max_mib = shown["cache.memory_max"]["value"] / (1 << 20)
        self.memory_budget_mib = memory_max_mib + MEMORY_FIXED_MIB

    def command(self):
        return [self.binary, "mount", "-f", self.mount]

    def settle(self):
        run(["sync", "-f", self.mount])
        self.tell("sync")


ALL = {system.name: system for system in (Plain, Passthrough, Gocryptfs, Securefs, Tgcryptfs)}


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as knob:
        knob.write("3")


def cpu_of(pid):
    """CPU seconds of a process and the children it has waited for."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:15])) / CLOCK_TICK_HZ
    except OSError:
        return 0.0


def io_of(pid, field):
    """An input/output figure of a process, bytes."""
    try:
        with open(f"/proc/{pid}/io") as figures:
            found = re.search(rf"^{field}: (\d+)", figures.read(), re.MULTILINE)
        return int(found[1]) if found else 0
    except OSError:
        return 0


def memory_of(pid, field):
    """A memory figure of a process, KiB."""
    try:
        with open(f"/proc/{pid}/status") as status:
            found = re.search(rf"{field}:\s+(\d+)", status.read())
        return int(found[1]) if found else 0
    except OSError:
        return 0

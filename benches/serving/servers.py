"""The servers that are compared: how each is started, reached and stopped."""

import os
import shutil
import socket
import subprocess
import time

import systems

HOST, PORT, MOUNT_PORT = "127.0.0.1", 12049, 12050
ADDRESS = f"{HOST}:{PORT}"

GANESHA = """
NFS_CORE_PARAM {{
    NFS_Protocols = 3; NFS_Port = {port}; MNT_Port = {mount_port};
    Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false;
    Plugins_Dir = {plugins};
}}
NFSV4 {{ Graceless = true; }}
EXPORT_DEFAULTS {{
    Access_Type = RW; Squash = No_Root_Squash; SecType = sys; Protocols = 3; Transports = TCP;
}}
EXPORT {{ Export_Id = 1; Path = {path}; Pseudo = /; FSAL {{ Name = VFS; }} }}
LOG {{ Default_Log_Level = EVENT; }}
"""


class Server:
    """A server over an empty file system of its own below `base`."""

    name = "?"
    protocol = "nfs"
    # A peer is compared with the project's own server over data that lies where its own does.
    compared = None
    # Whether files lie in its own memory, and not in tmpfs.
    holds_data = False

    def __init__(self, base, options):
        self.home = os.path.join(base, self.name)
        self.options, self.process = options, None

    # What differs between servers.

    def make(self):
        """Makes an empty file system."""

    def command(self):
        """The command that serves in the foreground."""
        raise NotImplementedError

    def environment(self):
        return None

    def target(self):
        """What the load is told besides the address."""
        return [ADDRESS, "/"] if self.protocol == "nfs" else [str(1 << 20), ""]

    # What is common.

    def start(self):
        self.discard()
        os.makedirs(self.home)
        self.make()
        log = open(os.path.join(self.home, "log"), "ab")
        self.process = subprocess.Popen(
            self.command(), env=self.environment(), stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True)
        for port in {PORT, int(self.target()[0].partition(":")[2] or PORT)}:
            self.await_port(port)
        time.sleep(0.3)

    def await_port(self, port):
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection((HOST, port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > until:
                    with open(os.path.join(self.home, "log")) as log:
                        raise RuntimeError(f"{self.name} does not serve: {log.read()[-2000:]}")
                time.sleep(0.05)

    def load(self, group):
        """Runs a group of steps; gives a line of JSON for each, and what went wrong."""
        pid = str(self.process.pid)
        command = [self.options.serving, "load", self.protocol, ADDRESS, *self.target(), pid, group]
        done = subprocess.run(command, text=True, capture_output=True)
        return done.stdout.splitlines(), done.stderr[-500:] if done.returncode else None

    def memory_mib(self, field):
        return systems.memory_of(self.process.pid, field) / 1024

    def stop(self):
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def discard(self):
        shutil.rmtree(self.home, ignore_errors=True)


class InMemory(Server):
    """A server in front of the file system in memory."""

    kind = "?"
    holds_data = True

    def command(self):
        return [self.options.serving, "serve", self.kind, ADDRESS]


class Own(InMemory):
    name, kind = "tgcryptfs", "nfs"


class Nfsserve(InMemory):
    name = kind = "nfsserve"


class Nfs3Server(InMemory):
    name = kind = "nfs3_server"


class OwnTmpfs(InMemory):
    """The file system in front of tmpfs."""

    name, kind, holds_data = "over tmpfs", "nfs", False

    @property
    def path(self):
        return os.path.join(self.home, "export")

    def make(self):
        os.makedirs(self.path)

    def command(self):
        return [*super().command(), self.path]


class Ganesha(Server):
    """It needs a port mapper, which `run` starts."""

    name, compared = "ganesha", OwnTmpfs

    @property
    def path(self):
        return os.path.join(self.home, "export")

    def make(self):
        os.makedirs(self.path)
        with open(os.path.join(self.home, "ganesha.conf"), "w") as file:
            file.write(GANESHA.format(
                port=PORT, mount_port=MOUNT_PORT, path=self.path,
                plugins=systems.run("echo /usr/lib/*/ganesha").strip()))

    def command(self):
        return ["ganesha.nfsd", "-F", "-L", "/dev/stderr", "-p", os.path.join(self.home, "pid"),
                "-f", os.path.join(self.home, "ganesha.conf")]

    def target(self):
        return [f"{HOST}:{MOUNT_PORT}", self.path]


class Whole(Server):
    """The program as it is shipped, with a directory store on tmpfs."""

    name = "whole program"
    word = "nfs"

    def __init__(self, base, options):
        super().__init__(base, options)
        self.vault = systems.Tgcryptfs(self.home, None, options.tgcryptfs)

    def make(self):
        os.makedirs(self.vault.store)
        self.vault.make()

    def environment(self):
        return self.vault.environment()

    def command(self):
        return [self.options.tgcryptfs, "serve", self.word, "--listen", ADDRESS, "-f"]


class OwnP9(OwnTmpfs):
    name, protocol, kind = "tgcryptfs 9p", "9p", "9p"


class OwnP9Short(OwnP9):
    """With messages no longer than those of `diod`."""

    name = "64 KiB"

    def target(self):
        return [str(64 << 10), ""]


class Diod(Server):
    name, protocol = "diod", "9p"

    @property
    def path(self):
        return os.path.join(self.home, "export")

    def make(self):
        os.makedirs(self.path)

    def command(self):
        return ["diod", "-f", "-n", "-l", ADDRESS, "-e", self.path, "-L", "stderr"]

    def target(self):
        return [str(1 << 20), self.path]


class WholeP9(Whole):
    name, protocol, word = "whole program 9p", "9p", "9p"


ALL = {server.name: server for server in (
    Own, OwnTmpfs, Nfsserve, Nfs3Server, Ganesha, Whole, OwnP9, OwnP9Short, Diod, WholeP9)}

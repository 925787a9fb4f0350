"""Become dockerd(8), listening on a TCP port of 127.0.0.1: engine.py PORT OPTION…

Runs in a user, PID and network namespace of the lab's and in mount and cgroup namespaces of its own
(unshare(1)), so the engine needs no root, touches nothing of the machine's, and is gone without a trace when
the PID namespace is: its files are in memory, its mounts are its own, and it makes no control groups, because
it sees none that can be written. Prints `listening` once clients can connect.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

MOUNTS = [("proc", "/proc", "rw"), ("tmpfs", "/run", "rw"), ("cgroup2", "/sys/fs/cgroup", "ro")]
"""(type, where, option). The lab's own /proc is that of another PID namespace. In an empty /run there is no
systemd to ask for control groups, and no file of another engine."""

RUNTIME = """#!/bin/sh
sed -i 's/,"gid=5"//' config.json
exec runc "$@"
"""
"""containerd starts it in the container's bundle. Group 5, to which terminals belong, does not exist here:
the user namespace has one user and one group (devpts(5): EINVAL)."""

OPTIONS = [
    "--log-level=error",  # nobody reads along: a full pipe would stop it
    "--rootless",  # dockerd asks for no control groups then
    "--host=fd://",  # of its own it would wait a second before it listens on a port without TLS
    "--config-file=/run/daemon.json",
    "--data-root=/run/data",
    "--exec-root=/run/exec",
    "--pidfile=/run/pid",
    "--storage-driver=vfs",
    "--add-runtime=lab=/run/runtime",
    "--default-runtime=lab",
]


def main(port: int, options: list[str]) -> None:
    for kind, where, option in MOUNTS:
        subprocess.run(["mount", "-t", kind, "-o", option, kind, where], check=True)
    hide_own_folder()
    protect_machine()
    Path("/run/daemon.json").write_text("{}")
    Path("/run/runtime").write_text(RUNTIME)
    Path("/run/runtime").chmod(0o755)
    listener = socket.create_server(("127.0.0.1", port))
    if listener.fileno() != 3:  # where sd_listen_fds(3) begin
        os.dup2(listener.fileno(), 3)
    os.set_inheritable(3, True)
    os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), XDG_RUNTIME_DIR="/run")
    os.write(1, b"listening\n")
    os.execvp("dockerd", ["dockerd", *OPTIONS, *options])  # noqa: S606 - the experiment's own engine


def hide_own_folder() -> None:
    """An /etc that is the machine's but for an empty /etc/docker, where dockerd keeps a key."""
    Path("/run/etc/docker").mkdir(parents=True)
    Path("/run/machine").mkdir()
    for entry in Path("/etc").iterdir():
        if entry.name != "docker":
            Path("/run/etc", entry.name).symlink_to(f"/run/machine/{entry.name}")
    subprocess.run(["mount", "--rbind", "/etc", "/run/machine"], check=True)
    subprocess.run(["mount", "--bind", "/run/etc", "/etc"], check=True)


def protect_machine() -> None:
    """To the owner of the machine's files, root, containerd would add /opt/containerd."""
    subprocess.run(["mount", "-o", "remount,bind,ro", "/"], check=True)


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), sys.argv[2:])
    except subprocess.CalledProcessError:
        sys.exit(1)  # mount(8) has said why

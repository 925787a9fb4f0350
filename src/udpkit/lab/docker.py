"""A real Docker engine of a lab host's own, away from any engine of the machine (dockerd(8)).

It runs as a program of the lab, without root: `programs/engine.py` says how. `docker` on that host talks to
it. Its image `lab` has programs of this machine; nothing is pulled.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from udpkit.evidence.programs import find
from udpkit.lab.commands import PROGRAMS, openbsd_nc
from udpkit.lab.control import ENGINE
from udpkit.lab.errors import CommandFailed, ProgramMissing, Unfit
from udpkit.lab.host import Host
from udpkit.lab.program import Program
from udpkit.lab.waiting import wait_until

IMAGE = "lab"
PATIENCE = 30.0
"""Seconds that the engine has to start and to take in the image."""
NEEDS = ["docker", "dockerd", "containerd", "runc", "unshare", "mount", "sed", "iptables"]
NEEDS_OF_TALK = """
import sys
sys.path.append(sys.argv[1])
import talk
print(*(module.__file__ for module in sys.modules.values() if getattr(module, "__file__", None)), sep="\\n")
"""


def start_engine(host: Host, programs: Sequence[str], options: str = "") -> Program:
    """Start an engine with an image of these programs; `options` are dockerd's. It ends with the lab.

    The lab must be in a user namespace of its own. Raises ProgramMissing, Unfit where this machine does not
    let us mount what it needs, CommandFailed where dockerd does not start.
    """
    if missing := next((name for name in NEEDS if find(name) is None), None):
        raise ProgramMissing(missing)
    packed = image(programs)
    python = [sys.executable, "-I", "-S", str(PROGRAMS / "engine.py")]
    engine = host.run("unshare", "--mount", "--cgroup", *python, str(ENGINE), *shlex.split(options))
    what = f"dockerd on {host.name} does not start"
    wait_until(lambda: engine.output or engine.status is not None, [engine], timeout=PATIENCE, what=what)
    if not engine.output:
        raise Unfit(f"this machine does not let us run a Docker engine: {engine.last_words()}")
    loads = host.run("docker", "import", "-", IMAGE)  # it waits in the port's queue until dockerd takes it
    loads.type(packed, PATIENCE)
    loads.close_input()
    wait_until(
        lambda: loads.status is not None or engine.status is not None,
        [loads, engine],
        timeout=PATIENCE,
        what=what,
    )
    if engine.status is None and loads.status == 0:
        return engine
    # A dockerd that is ending refuses the import before it has ended; of one that lives, SIGTERM is the end.
    if engine.status is not None or engine.stop() not in {0, -signal.SIGTERM}:
        raise CommandFailed(f"{host.name}: dockerd: {_why(engine)}")
    raise CommandFailed(f"{host.name}: docker import: {loads.last_words()}")


def _why(engine: Program) -> str:
    """The last that dockerd said; after a wrong option that is where to read about options."""
    lines = engine.errors.decode(errors="replace").splitlines()
    return next((line for line in reversed(lines) if line and "--help" not in line), engine.last_words())


def image(programs: Sequence[str]) -> bytes:
    """A tar of programs of this machine as /bin/NAME, with the libraries that they load, all root's.

    `talk` is the lab's own, with the parts of Python that it needs. Raises ProgramMissing.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", dereference=True) as archive:
        for name, path in dict(entry for program in programs for entry in _files(program)).items():
            archive.add(path, name.lstrip("/"), recursive=False, filter=_roots)
        if "talk" in programs:
            script = (PROGRAMS / "talk.py").read_bytes()
            entry = tarfile.TarInfo("bin/talk")
            entry.mode, script = 0o755, f"#!{os.path.realpath(sys.executable)} -IS\n".encode() + script
            entry.size = len(script)
            archive.addfile(entry, io.BytesIO(script))
    return packed.getvalue()


def _files(program: str) -> Iterator[tuple[str, str]]:
    """(name in the image, path here) of all that a program is made of."""
    if program == "talk":
        python = os.path.realpath(sys.executable)
        argv = [sys.executable, "-I", "-S", "-c", NEEDS_OF_TALK, str(PROGRAMS)]
        modules = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
        folder = Path(os.__file__).with_name("lib-dynload")  # without it Python complains
        paths = [python, *modules, str(folder)]
        yield from ((path, path) for path in paths)
        binaries = [python, *(path for path in modules if path.endswith(".so"))]
    else:
        path = openbsd_nc() if program == "nc" else find(program)
        if path is None:
            raise ProgramMissing(program)
        yield f"bin/{program}", path
        binaries = [path]
    for binary in binaries:
        loaded = subprocess.run(["ldd", binary], capture_output=True, text=True, check=False).stdout
        yield from ((library, library) for library in re.findall(r"(/\S+) \(0x", loaded))


def _roots(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0  # there is nobody else in the engine's user namespace
    entry.uname = entry.gname = ""
    return entry

"""The owner's end of the connection to a lab's keeper."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from udpkit.evidence.programs import SEARCH_PATH
from udpkit.lab import keeper
from udpkit.lab.errors import CommandFailed, LabError, LabUnavailable, ProgramMissing

LARGEST_ANSWER = 1 << 16

ENGINE = 2375
"""The TCP port of 127.0.0.1 on which a host's Docker engine listens."""
CLIENT = {
    "DOCKER_HOST": f"tcp://127.0.0.1:{ENGINE}",
    "DOCKER_CONFIG": "/nonexistent",
    "DOCKER_TLS_VERIFY": "",
}
"""So docker(1) finds the engine of the host that it runs on, and no other: the port belongs to a network
namespace. An abstract socket does too, but docker(1) 20.10 gets no streams over one ("Unrecognized input
header: 52")."""


class Control:
    """Starts a keeper and asks it for hosts, sockets and programs. May be shared by threads.

    With `user_namespace` the lab is in one even where it could do without.
    """

    def __init__(self, *, user_namespace: bool = False) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # A session of its own: Ctrl-C reaches the owner alone, who then takes the lab down in order.
            self._process = subprocess.Popen(
                [sys.executable, "-I", keeper.__file__, str(theirs.fileno()), str(int(user_namespace))],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PATH": SEARCH_PATH, **CLIENT},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        try:
            self.pid: int = self._receive()[0]["pid"]
        except OSError as error:
            self.close()
            raise LabUnavailable(why_unavailable(error)) from error
        except BaseException:
            self.close()
            raise

    def ask(self, op: str, *descriptors: int, **arguments: object) -> tuple[dict[str, Any], list[int]]:
        """Send one request, wait for its answer. The descriptors that come back are the caller's to close.

        Raises OSError as the keeper met it, and LabError if there is no keeper any more.
        """
        request = json.dumps({"op": op, **arguments}, ensure_ascii=False).encode(errors="surrogateescape")
        if len(request) > keeper.LARGEST_REQUEST:
            raise LabError(f"the lab cannot {op} with {len(request)} bytes of arguments")
        with self._lock:
            try:
                socket.send_fds(self._socket, [request], list(descriptors))
            except (BrokenPipeError, ConnectionResetError) as error:
                raise LabError("the lab's keeper has ended") from error
            return self._receive()

    def spawn(self, host: int, argv: Sequence[str], *standard: int) -> tuple[int, int]:
        """Start a program with these descriptors as its standard ones; answers its number, and its pidfd.

        Raises ProgramMissing, and CommandFailed for what cannot be run.
        """
        try:
            answer, [pidfd] = self.ask("spawn", *standard, host=host, argv=list(argv))
        except FileNotFoundError as error:
            raise ProgramMissing(argv[0]) from error
        except OSError as error:
            raise CommandFailed(f"{argv[0]} cannot be run: {error.strerror}") from error
        return answer["pid"], pidfd

    def _receive(self) -> tuple[dict[str, Any], list[int]]:
        try:
            message, descriptors, _, _ = socket.recv_fds(self._socket, LARGEST_ANSWER, 3)
        except ConnectionResetError:
            message, descriptors = b"", []
        if not message:
            raise LabError("the lab's keeper has ended")
        answer = json.loads(message)
        if "errno" in answer:
            raise OSError(answer["errno"], answer["error"], answer["path"])
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        if descriptors:
            self._socket.recv(LARGEST_ANSWER)  # the keeper has closed its copies
        return answer, descriptors

    def close(self) -> None:
        """End the keeper, and so every host and program. Returns when they are gone."""
        self._socket.close()
        self._process.wait()


LIMITS = [
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "unprivileged user namespaces are switched off: "
        "sysctl kernel.unprivileged_userns_clone=1, or run as root",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor restricts user namespaces: "
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or run as root",
    ),
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "user namespaces are switched off: sysctl user.max_user_namespaces=10000, or run as root",
    ),
    (
        "/proc/sys/user/max_net_namespaces",
        "0",
        "network namespaces are switched off: sysctl user.max_net_namespaces=10000",
    ),
    (
        "/proc/sys/user/max_pid_namespaces",
        "0",
        "PID namespaces are switched off: sysctl user.max_pid_namespaces=10000",
    ),
]
"""(file, value, sentence): the settings with which Linux refuses namespaces, each with its remedy."""


def why_unavailable(error: OSError) -> str:
    """One line that names the setting that keeps this machine from making hosts."""
    for path, value, sentence in LIMITS:
        try:
            if Path(path).read_text().strip() == value:
                return sentence
        except OSError:
            continue  # this kernel has no such setting
    return f"this machine does not let us make namespaces: {error.strerror}; run as root, outside a container"

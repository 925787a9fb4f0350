"""`udpkit fix`: programs that nobody can change answer from the address that was asked."""

from __future__ import annotations

import errno
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from udpkit.cli import say
from udpkit.cli.exits import FINDINGS, INTERRUPTED, MISSING, OK, USAGE, Failure
from udpkit.cli.fix_advise import advise
from udpkit.cli.fix_apply import apply, json_option, undo, verify
from udpkit.evidence import privilege

if TYPE_CHECKING:
    from udpkit._native import LoadedFix
    from udpkit.evidence.namespaces import Namespace
    from udpkit.fixes.cgroup import Keeper

F = TypeVar("F", bound=Callable[..., Any])

INSTEAD = "without it: bind the server to the address that is asked, or `ip route … src`"
RUN = 'echo 0 >"$0" && exec "$@"'
"""The shell moves itself (0) into the cgroup, and becomes the program."""
PATIENCE = 5
"""Seconds that a fix has to end once it was asked to."""
STREAMS = 3
"""Standard input, output and error are the descriptors below."""
LOOKING = 0.25
"""Seconds between two looks for signals."""
ENDING = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""They would end us, and what we have done would stay."""
FROM_KEYS = (signal.SIGINT, signal.SIGQUIT)
"""Of them those that a terminal sends to all that run in its foreground."""


@click.group()
def verb() -> None:
    """Let programs that nobody can change answer from the address that was asked.

    eBPF programs on a cgroup note to which of this host's addresses a datagram was sent, and give that
    address to the answer as its source. Programs that choose a source themselves are left alone, as are TCP
    and everything outside the cgroup.

    \b
    Exit codes: 0 done · 1 nothing to detach
                2 no such process, container, unit or cgroup
                5 no privilege, or a kernel that lacks something · 130 interrupted
    """


for _command in (advise, apply, verify, undo):
    verb.add_command(_command)


def targets(function: F) -> F:
    """The options that name a cgroup."""
    for option in (
        click.option("--all", "every", is_flag=True, help="Every program of this host."),
        click.option("--cgroup", metavar="PATH", help="This cgroup and those below it."),
        click.option("--unit", metavar="NAME", help="This systemd unit."),
        click.option("--container", metavar="NAME", help="This container; a name or an id."),
        click.option("--pid", type=click.IntRange(min=1), help="The cgroup of this process."),
    ):
        function = option(function)
    return function


flows_option = click.option(
    "--flows",
    type=click.IntRange(1, 1 << 22),
    default=16384,
    show_default=True,
    help="Peers that are remembered; beyond that those that were not heard of for longest are forgotten.",
)

connect_option = click.option(
    "--connect/--no-connect",
    default=True,
    help="Fix programs that connect() their socket, such as nc -ul, too. Takes policy rules and routing "
    "tables, and from then on makes every route look-up of the host slower by some nanoseconds.",
)


@verb.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@flows_option
@connect_option
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
def run(flows: int, connect: bool, program: Sequence[str]) -> int:
    """Run PROGRAM with the fix, in a cgroup of its own: udpkit fix run -- nc -ul 56789.

    Everything that it starts has the fix too. It ends with the last of them. The exit code is PROGRAM's.
    """
    from udpkit.evidence import namespaces
    from udpkit.fixes.cgroup import Keeper

    if not shutil.which(program[0]):
        raise Failure(f"{program[0]}: there is no such program", MISSING)
    with signals() as caught:
        with understood():
            require_privilege()
            cgroup = prepare()
            try:
                keeper = Keeper(cgroup, flows, namespaces.own(), connect=connect)
            except BaseException:
                cgroup.rmdir()
                raise
        with keeper:
            tell(keeper)
            code = run_inside(keeper, program, caught)
        with suppress(OSError):  # somebody is still in it
            cgroup.rmdir()
        return code


def is_in_foreground() -> bool:
    """Whether a terminal sends its signals to us, and to the program itself as well (credentials(7))."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def prepare() -> Path:
    """A cgroup for a program; what earlier ones have left goes. Raises OSError."""
    from udpkit import _native
    from udpkit.fixes.cgroup import cgroups

    with cgroups.locked():
        cgroups.sweep({one.cgroup for one in _native.loaded_fixes()})
        return cgroups.make()


def run_inside(keeper: Keeper, program: Sequence[str], caught: list[int]) -> int:
    """Until the last process in the cgroup has ended. Returns PROGRAM's exit code."""
    from udpkit.fixes.cgroup import cgroups

    argv = ["/bin/sh", "-c", RUN, str(keeper.cgroup / "cgroup.procs"), *program]
    process = subprocess.Popen(argv, close_fds=False)  # what we were given is for the program; ours close
    ends = os.pidfd_open(process.pid)

    def ended() -> bool:
        while caught:
            number = caught.pop()
            if number not in FROM_KEYS or not is_in_foreground():
                with suppress(ProcessLookupError):
                    process.send_signal(number)
        return process.poll() is not None

    keeper.keep(ended, [ends])
    while not ended():  # somebody has detached us: the program goes on
        keeper.close()
        select.select([ends], [], [], LOOKING)  # a signal alone does not end it (PEP 475)
    os.close(ends)
    keeper.keep(lambda: bool(caught) or not cgroups.populated(keeper.cgroup))
    code = process.returncode
    return code if code >= 0 else 128 - code


@verb.command()
@targets
@click.option("--persist", is_flag=True, help="Go to the background, and stay until it is detached.")
@flows_option
@connect_option
def attach(persist: bool, flows: int, connect: bool, **target: Any) -> int:
    """Fix programs that run already, with the sockets that they have open.

    Ends with Ctrl-C, and takes everything back; with --persist by `udpkit fix detach`.
    """
    cgroup, namespace = chosen(**target)
    with understood():
        require_privilege()
    tells = in_background() if persist else -1
    from udpkit.fixes.cgroup import Keeper

    with understood(), signals() as caught:
        keeper = Keeper(cgroup, flows, namespace, only=namespace is not None, connect=connect)
        with keeper:
            tell(keeper)
            whole = ", the cgroup of all programs that are in no other" if keeper.is_whole else ""
            say(f"attached to {keeper.cgroup}{whole}")
            if persist:
                ready(tells)
            keeper.keep(lambda: bool(caught))
            if keeper.has_gone:
                say(f"{keeper.cgroup} has gone, or nobody in it is left in this network namespace")
    return INTERRUPTED if signal.SIGINT in caught else OK


@verb.command("list")
@json_option
def show(as_json: bool) -> int:
    """Show every fix of this host: its cgroup, since when, and what became of answers."""
    from udpkit.fixes.cgroup import holder
    from udpkit.report import fixes as report

    with understood():
        found = [(one, path, holder(one)) for one, path in attached()]
    if as_json:
        click.echo(json.dumps(report.document(found), indent=2))
    else:
        report.show(found)
    return OK


@verb.command()
@targets
@json_option
def detach(as_json: bool, **target: Any) -> int:
    """End a fix, whoever attached it; without an option the only one that there is.

    Rules and tables that fixes have left whose process was killed are removed, too.
    """
    from udpkit.fixes.cgroup import clear_left, holder
    from udpkit.report.fixes import ended

    none = "there is no fix on this host"
    wanted = None
    if any(value not in (None, False) for value in target.values()):
        wanted = chosen(**target)[0]
        none = f"{wanted} has no fix"
    with understood():
        require_privilege()
        found = [(one, path) for one, path in attached() if wanted in (None, path)]
        if not found:
            if not clear_left():
                raise Failure(none, FINDINGS)
            if as_json:
                click.echo(json.dumps(ended(None), indent=2))
            say(f"{none}; removed the rules and tables that one has left which was killed")
            return OK
        if len(found) > 1:
            raise click.UsageError(f"there are {len(found)}: say which; see udpkit fix list")
        [(one, path)] = found
        with suppress(FileNotFoundError):  # it has just ended by itself
            one.ask_to_leave()
        end = time.monotonic() + PATIENCE
        while is_loaded(one):
            if time.monotonic() > end:
                who = holder(one) or "of another PID namespace"
                raise Failure(f"process {who}, which holds the fix, does not end it: kill it", MISSING)
            time.sleep(0.01)
        clear_left()
    if as_json:
        click.echo(json.dumps(ended(path), indent=2))
    say(f"detached from {path or 'a cgroup that has gone'}")
    return OK


def attached() -> list[tuple[LoadedFix, Path | None]]:
    """Every fix with its cgroup's folder; None where that has gone. Raises OSError."""
    from udpkit import _native
    from udpkit.fixes.cgroup import cgroups

    found = [one for one in _native.loaded_fixes() if one.cgroup]
    paths = cgroups.names_of({one.cgroup for one in found}) if found else {}
    return [(one, paths.get(one.cgroup)) for one in found]


def is_loaded(fix: LoadedFix) -> bool:
    """Whether it is still there; another one may have its slot by now. Raises OSError."""
    from udpkit import _native

    return any((one.slot, one.instance) == (fix.slot, fix.instance) for one in _native.loaded_fixes())


def chosen(
    *, pid: int | None, container: str | None, unit: str | None, cgroup: str | None, every: bool
) -> tuple[Path, Namespace | None]:
    """The cgroup that was asked for, and the network namespace if it is about one. Raises Failure."""
    from udpkit.evidence import namespaces
    from udpkit.fixes.cgroup import cgroups

    if sum(map(bool, (pid, container, unit, cgroup, every))) != 1:
        raise click.UsageError("one of --pid, --container, --unit, --cgroup and --all is needed")
    try:
        if pid:
            return cgroups.of_process(pid), namespaces.of_process(pid)
        if container:
            namespace = namespaces.of_container(container)
            return cgroups.of_process(namespace.path.split("/")[2]), namespace
        if unit:
            return cgroups.of_unit(unit), None
        return cgroups.by_path(cgroup or "/"), None
    except (LookupError, ProcessLookupError) as error:
        raise Failure(str(error), USAGE) from error
    except PermissionError as error:
        raise Failure(f"{why_forbidden(error)}; {INSTEAD}", MISSING) from error
    except OSError as error:
        raise Failure(f"{error}; {INSTEAD}", MISSING) from error


def tell(keeper: Keeper) -> None:
    for sentence in keeper.sentences:
        say(sentence)


@contextmanager
def understood() -> Iterator[None]:
    """What can go wrong, as one line. Raises Failure."""
    from udpkit.fixes.cgroup import AlreadyFixed, cgroups
    from udpkit.fixes.cgroup.tables import NoIp

    try:
        yield
    except AlreadyFixed as error:
        raise Failure(str(error), USAGE) from error
    except (cgroups.NoCgroups, NoIp) as error:
        raise Failure(f"{error}; {INSTEAD}", MISSING) from error
    except PermissionError as error:
        raise Failure(f"{why_forbidden(error)}; {INSTEAD}", MISSING) from error
    except FileNotFoundError as error:
        raise Failure(f"{error.filename}: {error.strerror}", MISSING) from error
    except OSError as error:
        why = f"Linux {os.uname().release} cannot: {error.strerror or error}"
        raise Failure(f"{why}{NEEDED.get(error.errno or 0, '')}; {INSTEAD}", MISSING) from error


NEEDED = {
    errno.ENOSYS: " (CONFIG_BPF_SYSCALL)",
    errno.EINVAL: " (CONFIG_CGROUP_BPF, Linux 5.10 or later)",
    errno.EACCES: " (Linux 5.10 or later)",
}
"""What a kernel lacks that answers so (bpf(2))."""
CAPABILITIES = ("CAP_NET_ADMIN", "CAP_SYS_ADMIN")
"""What a fix takes. The second holds CAP_BPF, too (capabilities(7))."""
TO_LOOK = {True: "CAP_SYS_PTRACE", False: "CAP_DAC_OVERRIDE"}
"""What opens files, by whether they are those of a process."""


def require_privilege() -> None:
    """Without the first much would work, and the rules be missing. Raises PermissionError."""
    if privilege.lacking(*CAPABILITIES):
        raise PermissionError


def why_forbidden(error: PermissionError) -> str:
    takes = "fixing other programs takes root"
    path = error.filename and os.fsdecode(error.filename)
    to_look = [TO_LOOK[path.startswith("/proc/")]] if path else []
    if lacks := privilege.lacking(*CAPABILITIES, *to_look):
        return f"{takes}; missing: {', '.join(lacks)}"
    if path:
        return f"{takes}; {path}: {error.strerror}"
    if not privilege.is_in_first_user_namespace():
        return f"{takes} outside of user namespaces"
    return "this kernel lets nobody load BPF programs: it is locked down (kernel_lockdown(7))"


@contextmanager
def signals() -> Iterator[list[int]]:
    """The signals that would end us, as they come, but for those that we were told to ignore (nohup(1)).

    Handlers, unlike SIG_IGN, do not outlive execve(2).
    """
    caught: list[int] = []

    def catch(number: int, _frame: FrameType | None) -> None:
        caught.append(number)

    heard = [one for one in ENDING if signal.getsignal(one) is not signal.SIG_IGN]
    before = {one: signal.signal(one, catch) for one in heard}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def in_background() -> int:
    """Go on as a process of its own; the one that was called ends as soon as that is ready, or has failed.

    Returns a descriptor, to tell that it is ready: `ready`.
    """
    # Nothing of ours may have the number of a standard stream that was closed: `ready` takes those.
    while (taken := os.open(os.devnull, os.O_RDWR)) < STREAMS:
        pass
    os.close(taken)
    waits, tells = os.pipe()
    if child := os.fork():
        os.close(tells)
        if not os.read(waits, 1):
            raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        os._exit(OK)
    os.close(waits)
    os.setsid()
    return tells


def ready(tells: int) -> None:
    """Nobody waits for us any more, nor for what we have open."""
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(STREAMS):
        os.dup2(nothing, stream)
    os.close(nothing)
    os.write(tells, b"1")
    os.close(tells)

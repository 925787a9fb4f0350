"""What an experiment is: its stage, its steps and what is expected, as its file says them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Port = Annotated[int, Meta(ge=1, le=65535)]

Fate = Literal["heard", "refused", "lost"]
"""What became of a line: printed by the other program, refused with an ICMP error, or neither."""


class Interface(Struct, forbid_unknown_fields=True):
    """A network interface. Without `link` a cable leads to a network where nobody is."""

    kind: Literal["cable", "bridge", "macvlan"] = "cable"
    addresses: list[str] = []
    link: str | None = None
    """`host.interface` at the other end of the cable; a bridge there gets a port. A macvlan's parent."""


class DockerPlan(Struct, forbid_unknown_fields=True):
    """A Docker engine: the programs of this machine that its image `lab` has, and options of dockerd(8)."""

    programs: list[str]
    options: str = ""


class HostPlan(Struct, forbid_unknown_fields=True):
    """A host. `routes` and `rules` are in the words of ip(8), `commands` are shell lines (iptables, nft)."""

    interfaces: dict[str, Interface] = {}
    routes: list[str] = []
    rules: list[str] = []
    sysctls: dict[str, int | str] = {}
    commands: list[str] = []
    docker: DockerPlan | None = None


class ProgramPlan(Struct, forbid_unknown_fields=True):
    """A program: on which host, its command line, and whether strace watches its UDP sockets."""

    on: str
    run: str
    trace: bool = False


class Start(Struct, forbid_unknown_fields=True, tag_field="do", tag="start"):
    """Start a program; with `port`, wait until something on its host has that port open."""

    program: str
    port: Port | None = None


class Say(Struct, forbid_unknown_fields=True, tag_field="do", tag="say"):
    """Type a line into one program, and wait until another prints it, or it is refused or lost."""

    by: str
    to: str
    text: str
    fate: Fate = "heard"
    column: str = ""


class Type(Struct, forbid_unknown_fields=True, tag_field="do", tag="type"):
    """Type a line into a program."""

    program: str
    text: str


class Prints(Struct, forbid_unknown_fields=True, tag_field="do", tag="prints"):
    """Wait until a program prints a line that fits a pattern, after those that earlier such steps found."""

    program: str
    text: str
    column: str = ""


class Sockets(Struct, forbid_unknown_fields=True, tag_field="do", tag="sockets"):
    """Look at a host's UDP sockets. `expect` has a pattern for each: `0.0.0.0:53 unconnected`,
    `172.17.0.1:53 connected to 172.17.0.3:*`."""

    on: str
    expect: list[str]


class End(Struct, forbid_unknown_fields=True, tag_field="do", tag="end"):
    """Wait until a program has ended by itself."""

    program: str


class Stop(Struct, forbid_unknown_fields=True, tag_field="do", tag="stop"):
    """Send a program a signal, and wait until it has ended. It can be started again."""

    program: str
    signal: Literal["TERM", "KILL", "INT"] = "TERM"


class Command(Struct, forbid_unknown_fields=True, tag_field="do", tag="command"):
    """Run a shell line on a host to its end. `prints`: patterns of lines that it prints, in order."""

    on: str
    run: str
    prints: list[str] = []
    status: int = 0
    column: str = ""


Step = Start | Say | Type | Prints | Sockets | End | Stop | Command


STEPS: dict[str, type[Struct]] = {
    str(kind.__struct_config__.tag): kind for kind in (Start, Say, Type, Prints, Sockets, End, Stop, Command)
}


class ExpectedFinding(Struct, forbid_unknown_fields=True):
    """A finding; the addresses are patterns (`172.17.0.3:*`)."""

    code: str
    severity: Literal["error", "warning", "note"] = "error"
    client: str = "*"
    server: str = "*"
    actual: str = "*"


class Expect(Struct, forbid_unknown_fields=True):
    """What must be seen: patterns for each datagram and ICMP error, and every finding, in any order.

    `calls` has for traced programs patterns of some of their system calls on UDP sockets, in order.
    """

    sequence: list[str]
    findings: list[ExpectedFinding]
    calls: dict[str, list[str]] = {}


Outcome = Literal["works", "fails"]


class FixesPlan(Struct, forbid_unknown_fields=True):
    """Which fixes are tried, and how each must fare in each exchange.

    `server` and `client` name the programs whose places the exchanges' programs take. `exchange` is the one
    that the experiment's own programs are.
    """

    server: str
    client: str
    exchange: str
    expect: dict[str, dict[str, Outcome]]


class Experiment(Struct, forbid_unknown_fields=True):
    """One experiment. `values` are what `{name}` stands for in its other strings.

    `claim` is what articles say, `answer` what was seen; `twin` is the experiment where the fault is not
    there, or where it is. Of a file with `cases`, each is an experiment of its own, called `FILE:CASE`, with
    these values instead; the steps that have a `column` are the cells of a table with a row for each. `needs`
    are shell lines that succeed where the kernel has what the key names.
    """

    title: str
    question: str
    hosts: dict[str, HostPlan]
    programs: dict[str, ProgramPlan]
    capture: list[str]
    steps: list[Step]
    expect: Expect
    values: dict[str, str | int] = {}
    cases: dict[str, dict[str, str | int]] = {}
    claim: str = ""
    answer: str = ""
    twin: str = ""
    needs: dict[str, str] = {}
    fixes: FixesPlan | None = None
    name: str = ""
    case: str = ""

    @property
    def file(self) -> str:
        """The name without its case."""
        return self.name.removesuffix(f":{self.case}") if self.case else self.name

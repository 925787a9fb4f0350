"""What `udpkit fix` costs a plain echo server, and how long it takes to attach: `python bench/fix` (root).

Two pairs of hosts: one without a policy rule, where the fix comes without those for connect(),
and one that has a rule of its own (any makes the kernel's route lookups slower), where the fix brings its
rules. Each round asks the same server without the fix and under it, on both hosts, in an order that changes;
the median of the rounds' ratios counts. Server and load have a core each.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from udpkit.evidence.namespaces import Namespace
from udpkit.fixes.cgroup import Keeper, cgroups
from udpkit.lab import Lab, wait_until

HERE = Path(__file__).parent
ALLOWED = 0.03
ALLOWED_ATTACHING = 0.1
"""Seconds."""
SERVERS = {"5300": "serve 5300 ::", "5302": "serve 5302 10.0.0.7", "5303": "accept 5303"}
"""By their ports: one that needs the fix, one that is bound to an address, and one that speaks TCP."""
CASES = {
    "IPv4, 1 peer": "drive 10.0.0.7 5300 10.1.0.0 1",
    "IPv4, 10,000 peers": "drive 10.0.0.7 5300 10.1.0.0 10000",
    "IPv6, 1 peer": "drive fd00::7 5300 fd01:: 1",
    "IPv6, 10,000 peers": "drive fd00::7 5300 fd01:: 10000",
    "bound socket": "drive 10.0.0.7 5302 10.1.0.0 1",
    "TCP": "stream 10.0.0.7 5303",
}
NEED_NONE = {"bound socket", "TCP"}
"""They need no fix, which must cost them nothing that can be measured: zero lies between the quartiles."""
STAGES = {"no rules": False, "rules": True}
"""Whether the host has a policy rule, and the fix brings those for connect()."""
CORES = sorted(os.sched_getaffinity(0))[:2]


class Stage:
    """A server, under the fix or not, and a client on one cable."""

    def __init__(self, stack: ExitStack, lab: Lab, echo: str, name: str, rules: bool) -> None:
        self.echo, self.rules = echo, rules
        self.cgroup = cgroups.mount() / f"bench-udpkit-{name.replace(' ', '-')}-{os.getpid()}"
        self.cgroup.mkdir()
        stack.callback(vanish, self.cgroup)
        server, self.client = lab.host(f"{name} server"), lab.host(f"{name} client")
        self.namespace = Namespace("server", server.namespace)
        lab.link(self.client, "eth0", server, "eth0")
        server.address("eth0", "10.0.0.1/24", "10.0.0.7/24", "fd00::1/64", "fd00::7/64")
        self.client.address("eth0", "10.0.0.2/24", "fd00::2/64")
        self.client.sysctl("net.ipv6.ip_nonlocal_bind", 1)
        for network, via in (("10.1.0.0/16", "10.0.0.2"), ("fd01::/112", "fd00::2")):
            server.ip(f"route add {network} via {via}")
            self.client.ip(f"route add local {network} dev lo")
        if rules:
            for family in "-4", "-6":
                server.ip(f"{family} rule add fwmark 0x7 lookup 7")
        shell = ["sh", "-c", 'echo 0 >"$0"; exec "$@"', f"{self.cgroup}/cgroup.procs"]
        for port, serve in SERVERS.items():
            program = server.run(*shell, "taskset", "-c", str(CORES[0]), echo, *serve.split())
            server.wait_for_port(int(port), program)
            stack.callback(program.stop, signal.SIGKILL)
        self.attaching: list[float] = []

    def rate(self, fixed: bool, case: str, seconds: float) -> float:
        """Echoes per second."""
        if not fixed:
            return self._rate(case, seconds)
        started = time.perf_counter()
        with Keeper(self.cgroup, namespace=self.namespace, only=True, connect=self.rules):
            self.attaching.append(time.perf_counter() - started)
            return self._rate(case, seconds)

    def _rate(self, case: str, seconds: float) -> float:
        argv = [self.echo, *case.split(), str(seconds)]
        program = self.client.run("taskset", "-c", str(CORES[-1]), *argv)
        assert program.wait(seconds + 20) == 0, program.last_words()
        echoes, took = program.output.split()
        program.close()
        return int(echoes) / float(took)


def vanish(cgroup: Path) -> None:
    wait_until(lambda: not cgroups.populated(cgroup), timeout=5, what=f"{cgroup} is in use", polling=True)
    cgroup.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/fix", description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=15, help="for each case (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1, help="length of a run (default: %(default)s)")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench/fix: eBPF takes root")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="udpkit-bench-"))
        echo = f"{folder}/echo"
        subprocess.run(["cc", "-O2", "-Wall", "-o", echo, HERE / "echo.c"], check=True)
        lab = stack.enter_context(Lab())
        stages = {name: Stage(stack, lab, echo, name, rules) for name, rules in STAGES.items()}
        columns = [(name, fixed) for name in STAGES for fixed in (False, True)]
        print(f"{'':20}" + "".join(f"{f'{n}, fixed' if fixed else n:>17}" for n, fixed in columns))
        for name, case in CASES.items():
            rounds: list[dict[tuple[str, bool], float]] = []
            for number in range(arguments.rounds):
                order = columns[:: 1 if number % 2 else -1]
                rounds.append(
                    {(n, fixed): stages[n].rate(fixed, case, arguments.seconds) for n, fixed in order}
                )
            rates = "".join(
                f"{statistics.median(one[column] for one in rounds):15,.0f}/s" for column in columns
            )
            print(f"{name:20}{rates}", flush=True)
            for without, under in ((0, 1), (2, 3), (0, 3)):
                ratios = [one[columns[under]] / one[columns[without]] for one in rounds]
                cost, spread = 1 - statistics.median(ratios), statistics.quantiles(ratios, n=4)
                words = f"{columns[under][0]}, fixed / {columns[without][0]}"
                quartiles = f"quartiles {1 - spread[2]:.1%} to {1 - spread[0]:.1%}"
                allowed = "nothing that can be measured" if name in NEED_NONE else f"{ALLOWED:.0%}"
                print(f"    {words:28}{cost:7.1%} ({quartiles}), allowed {allowed}")
        for name, stage in stages.items():
            median, slowest = statistics.median(stage.attaching), max(stage.attaching)
            print(
                f"attaching, {name}: {median:.3f} s, slowest {slowest:.3f} s, allowed {ALLOWED_ATTACHING} s"
            )


if __name__ == "__main__":
    main()

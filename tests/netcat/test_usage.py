"""What cannot be done: one clear line, exit 2, and never a traceback."""

from __future__ import annotations

import pytest
from cli.command import udpkit

from udpkit.cli.nc import seconds

WRONG = {
    "": "a HOST and a PORT are needed",
    "--baffle 127.0.0.1 80": "--baffle",
    "-x 127.0.0.1 80": "-x",
    "-u 127.0.0.1": "which port of 127.0.0.1?",
    "-p": "requires an argument",
    "127.0.0.1 0": "port 0 is not from 1 to 65535",
    "-u 127.0.0.1 70000": "port 70000 is not from 1 to 65535",
    "-u 127.0.0.1 99999999999999999999": "is not from 1 to 65535",
    "-ul 0": "port 0 is not from 1 to 65535",
    "-ul 70000": "port 70000 is not from 1 to 65535",
    "-u -p 0 127.0.0.1 80": "port 0 is not from 1 to 65535",
    "-z 127.0.0.1 1-70000": "port 70000 is not from 1 to 65535",
    "-u 127.0.0.1 80-90": "several ports need -z",
    "-u 127.0.0.1 80 81": "several ports need -z",
    "127.0.0.1 no-such-service": "port no-such-service is neither a number nor a TCP service",
    "-un 127.0.0.1 domain": "port domain is not a number",
    "-u 127.0.0.1 ٣": "port ٣ is neither",
    "-u no-such-host.invalid 80": "no-such-host.invalid: no address:",
    "-n localhost 80": "-n takes addresses only",
    "-u a..b 80": "a..b: no address: not a name",
    "-6u 127.0.0.1 80": "127.0.0.1: no IPv6 address",
    "-u -s ::1 127.0.0.1 80": "::1: no IPv4 address",
    "-46 127.0.0.1 80": "-4 or -6, not both",
    "-l": "-l needs a port",
    "-l 1 2 3": "-l takes one address and one port",
    "-lz 80": "-z looks at the ports of others, -l opens one here",
    "-k 127.0.0.1 80": "-k needs -l",
    "-b 127.0.0.1 80": "-b needs -u",
    "--any-source -ul 80": "--any-source is for -u HOST PORT",
    "-w soon 127.0.0.1 80": "soon is not a number of seconds",
    "-w nan 127.0.0.1 80": "nan is not a number of seconds",
    "-w -1 127.0.0.1 80": "a time is not negative",
    "-ul 192.0.2.77 5300": "192.0.2.77 port 5300: not an address of this host; `ip address` shows",
    "-l 192.0.2.77 5300": "192.0.2.77 port 5300: not an address of this host; `ip address` shows",
    "-u -s 192.0.2.77 127.0.0.1 80": "192.0.2.77: not an address of this host",
    "-u 127.255.255.255 80": "-b allows to send there",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_what_is_wrong_is_one_line_and_exit_code_2(arguments: str) -> None:
    run = udpkit("nc", *arguments.split())
    assert (run.returncode, run.stdout) == (2, "")
    [line] = run.stderr.splitlines()
    assert line.startswith("udpkit: ")
    assert WRONG[arguments] in line


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_flag(flag: str) -> None:
    run = udpkit("nc", flag)
    assert run.returncode == 0
    assert [one for one in "ulkps46vzwqnibNd" if f" -{one}" not in run.stdout] == []


@pytest.mark.parametrize(
    ("text", "time"), [("2", 2), ("0.5", 0.5), ("500ms", 0.5), ("1m", 60), ("2h", 7200), ("-1", -1)]
)
def test_times_are_read_as_ncat_does(text: str, time: float) -> None:
    assert seconds(text) == time

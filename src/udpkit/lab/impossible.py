"""Patterns of experiments that no line can fit, whatever the hosts do.

Each function takes a pattern and answers None, or why nothing fits it and what is right. A `*` stands for
a part of a word, for how a line begins, or for how it ends: what it hides is never blamed.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address

from udpkit.facts import Address
from udpkit.kernel.icmp import KINDS
from udpkit.lab.addresses import Addresses
from udpkit.lab.names import near, near_or_all
from udpkit.lab.patterns import fits

KIND = re.compile(r" (UDP|ICMP|ICMPv6)(?: |$)")
MESSAGE = "a:p > b:q UDP payload, or a > b ICMP port unreachable (c:p > d:q)"
WITH_PORT = re.compile(r"(?P<four>[^\[\]:]*):(?P<port>[^:]*)|\[(?P<six>[^\[\]]*)\]:(?P<port6>[^:]*)")
GLOB = re.compile(r"[0-9a-f:.*]*(%\S*)?")
"""An address of which `*` stands for a part."""
BEGUN = re.compile(r"(?:[0-9.]*(?::[0-9]*)?|\[[0-9a-f:.]*(?:%\S*)?(?:\](?::[0-9]*)?)?)\*[0-9a-f:.*\[\]%]*")
"""One with a port, of which `*` stands for a part."""
BEGIN = re.compile(r"[0-9a-f:.\[\]% >]*")
ARROW = re.compile(r"[-=]+>|→")
KINDS_SEEN = ("UDP", "ICMP", "ICMPv6")
OF_VERSION = {4: re.compile(r"[0-9]+\."), 6: re.compile(r"[0-9a-f]*:")}
"""How an address begins."""
NUMBERED = re.compile(r"type [0-9*]+ code [0-9*]+")

CALLS = (
    *("accept", "accept4", "bind", "close", "connect", "getpeername", "getsockname", "getsockopt", "listen"),
    *("read", "recvfrom", "recvmmsg", "recvmsg", "sendfile", "sendmmsg", "sendmsg", "sendto"),
    *("setsockopt", "shutdown", "write"),
)
"""Those that strace is told to watch and that have a socket for their first argument."""
INSTEAD = {"recv": "recvfrom", "send": "sendto"}
"""What the C library's functions call."""
FAILED = re.compile(r"= -1 (E[A-Z0-9]+)(.*)$")
TOLD = re.compile(r"(?:send|receive|queue): (E[A-Z0-9]+)(|\*| from .*)")
"""How `talk --errors` and `--queue` tell an error."""
ERRORS = errno.errorcode.values()

Check = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Hosts:
    """What is known of the hosts: which addresses there may be, and each host's first ones by its name."""

    addresses: Addresses
    by_name: dict[str, list[str]]

    def message(self, pattern: str) -> str | None:
        """Of a capture: a datagram, or an ICMP error."""
        kind = KIND.search(pattern)
        if kind is None:
            return self._of_any_kind(pattern)
        ends, rest = pattern[: kind.start()], pattern[kind.end() :]
        if kind[1] == "UDP":
            if kind.end() == len(pattern) and not pattern.endswith(" "):
                return "what follows UDP is the payload: “UDP *” where it may be any"
            return _ends(ends, self.endpoint)
        return _ends(ends, self._bare) or self._error(6 if kind[1] == "ICMPv6" else 4, ends, rest)

    def _of_any_kind(self, pattern: str) -> str | None:
        """A `*` stands for what says whether it is a datagram."""
        if pattern.startswith("*"):
            return None
        words = pattern.split(" ")
        if len(words) > 2 and words[1] == ">":
            for word in words[0], words[2]:
                if (wrong := self.endpoint(word)) and self._bare(word):
                    return wrong
            kind, star, _ = words[3].partition("*") if len(words) > 3 else ("", "", "")
            begun = any(one.startswith(kind) for one in KINDS_SEEN)
            misspelt = not begun and kind.upper() in (*map(str.upper, KINDS_SEEN), "TCP")
            if misspelt or not ("*" in words[2] or (star and begun)):
                return f"after its two ends a line says UDP, ICMP or ICMPv6: {MESSAGE}"
            return None
        begin, star, _ = pattern.partition("*")
        arrow = len(words) > 1 and ARROW.fullmatch(words[1])
        return None if star and BEGIN.fullmatch(begin) and not arrow else f"a line is {MESSAGE}"

    def _error(self, version: int, ends: str, rest: str) -> str | None:
        """The name of an ICMP error, and what it quotes."""
        name, bracket, quoted = rest.partition("(")
        names = sorted({kind.name for (of, _, _), kind in KINDS.items() if of == version})
        if OF_VERSION[10 - version].match(ends):
            return f"an error about IPv{10 - version} is {'ICMP' if version == 6 else 'ICMPv6'}"
        if not bracket:
            begin, star, _ = name.partition("*")
            if not star:
                return f"it lacks what the error quotes: {rest or names[0]} (c:p > d:q), or (*)"
            known = any(f"{one} (".startswith(begin) for one in names) or "type ".startswith(begin[:5])
            return None if known else near_or_all(begin.strip(), names)
        if not any(fits(name, f"{one} ") for one in names) and not NUMBERED.fullmatch(name.rstrip()):
            bare = name.strip()
            if bare in names:
                return f"one space is between “{bare}” and (c:p > d:q)"
            return f"no ICMP error of IPv{version} is called “{bare}”: {near_or_all(bare, names)}"
        if quoted.endswith(")"):
            return _ends(quoted[:-1], self.endpoint)
        return None if "*" in quoted else "what the error quotes ends with )"

    def socket(self, pattern: str) -> str | None:
        """Of a host's table: `a:p unconnected`, `a:p connected to b:q`."""
        local, _, rest = pattern.partition(" ")
        begin, star, _ = local.partition("*")
        if star and (not begin or not rest):
            return None if BEGUN.fullmatch(f"{begin}*") else self.endpoint(local)
        if wrong := self.endpoint(local):
            return wrong
        if peer := re.fullmatch(r"connected to (\S+)", rest):
            return self.endpoint(peer[1])
        if "*" in rest:
            begin = rest.partition("*")[0]
            if begin.startswith("connected to ") or any(
                one.startswith(begin) for one in ("unconnected", "connected to ")
            ):
                return None
        return None if rest == "unconnected" else "a socket is “a:p unconnected” or “a:p connected to b:q”"

    def endpoint(self, pattern: str) -> str | None:
        """`a:p`, `[a]:p`; both may have `*`."""
        parts = WITH_PORT.fullmatch(pattern)
        if parts is None:
            if BEGUN.fullmatch(pattern):
                return None
            head, _, port = pattern.rpartition(":")
            with suppress(ValueError):
                return f"an IPv6 address before a port is in brackets: [{ip_address(head)}]:{port}"
            with suppress(ValueError):
                address = ip_address(pattern)
                return f"it lacks its port: {f'[{address}]' if address.version == 6 else address}:*"
            return self._no_address(pattern, pattern, ":*")
        text, port = (
            (parts["four"], parts["port"]) if parts["six"] is None else (parts["six"], parts["port6"])
        )
        if not re.fullmatch(r"[0-9*]+", port) or (
            port.isdigit() and (int(port) > 65535 or port != str(int(port)))
        ):
            return f"“{port}” is no port: a number up to 65535, or *"
        return self._address(text, pattern, 4 if parts["six"] is None else 6, f":{port}")

    def _bare(self, pattern: str) -> str | None:
        """An address without a port, as the ends of ICMP errors are."""
        if parts := WITH_PORT.fullmatch(pattern):
            bare = parts["four"] or parts["six"] or "*"
            with suppress(ValueError):
                return f"the ends of an ICMP error have no ports: {ip_address(bare)}"
        return self._address(pattern, pattern, 6 if ":" in pattern else 4, "")

    def _address(self, text: str, pattern: str, version: int, port: str) -> str | None:
        if "*" in text:
            return None if GLOB.fullmatch(text) else self._no_address(text, pattern, port)
        try:
            address: Address = ip_address(text)
        except ValueError:
            return self._no_address(text, pattern, port)
        if address.version != version:
            return f"an IPv{address.version} address before a port is [{text}]{port}" if port else None
        if str(address) != text:
            return f"{text} is written {address}"
        if self.addresses.may_be(address):
            return None
        named = [str(one) for one in self.addresses.named if one.version == address.version]
        return f"no host has {text}, and no other line of the file names it: {near_or_all(text, named)}"

    def _no_address(self, text: str, pattern: str, port: str) -> str:
        if own := self.by_name.get(re.split(r"[.:]", text)[0]):
            written = [f"[{one}]{port}" if ":" in one and port else f"{one}{port}" for one in own]
            return f"{text} is the name of a host; what is seen is its address: {' or '.join(written)}"
        return f"“{pattern}” is no {'address with a port' if port else 'address'}"


def _ends(text: str, check: Check) -> str | None:
    """Both ends of `a > b`; one where a `*` stands for the other, too."""
    words = text.split(" ")
    if len(words) == 1 and "*" in text:
        return check(text)
    if len(words) == 2 and (words[0].startswith("*") or words[1].startswith(("*", ">*"))):
        return None
    if len(words) == 3 and all(words) and fits(words[1], ">"):
        return check(words[0]) or check(words[2])
    return f"“{text}” is not a > b: a line is {MESSAGE}"


def call(pattern: str) -> str | None:
    """Of a program that strace watches: `sendto(3, "hello\\n", 6, 0, NULL, 0) = 6`."""
    name, bracket, arguments = pattern.partition("(")
    begin, star, _ = name.partition("*")
    if not bracket and not star:
        return "a call is name(arguments) = result, such as connect(*) = 0"
    if star and not any(one.startswith(begin) for one in CALLS):
        return f"no call on a UDP socket begins with {begin}; watched are {', '.join(CALLS)}"
    if not star and name not in CALLS:
        meant = f"did you mean {INSTEAD[name]}?" if name in INSTEAD else near_or_all(name, CALLS)
        return f"{name or 'nothing'} is no call on a UDP socket that is watched: {meant}"
    if not star and arguments and not re.match(r"[0-9*]", arguments):
        return f"the first argument is the socket's descriptor: {name}(3, … or {name}(*"
    if failed := FAILED.search(pattern):
        if wrong := _errno(failed[1], failed[2]):
            return wrong
        if not failed[2]:
            return f"strace tells {failed[1]} in words, too: end with {failed[1]}*"
    return None


def printed(pattern: str) -> str | None:
    """Of a program that prints lines."""
    return (
        "a line has no line end within" if len(pattern.splitlines()) > 1 or pattern.endswith("\n") else None
    )


def told(pattern: str) -> str | None:
    """Of `talk`, which tells errors by their names."""
    found = TOLD.fullmatch(pattern)
    return _errno(found[1], found[2]) if found else None


def _errno(name: str, rest: str) -> str | None:
    """`rest` is what follows it: after a `*` it may be the beginning of a name."""
    if name in ERRORS or (rest.startswith("*") and any(one.startswith(name) for one in ERRORS)):
        return None
    return f"there is no error called {name}: {near(name, ERRORS) or 'errno(3) lists them'}"

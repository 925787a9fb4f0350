"""Texts of experiments."""

from __future__ import annotations

from udpkit.lab.reading import built_in

STORY = built_in()["docker0-nc"].read_text()
SILENT = built_in()["one-address-nc"].read_text()


SIX = (
    STORY.replace('"0.0.0.0:', '"[::]:')
    .replace("nc -ul", "nc -6ul")
    .replace("nc -u ", "nc -6u ")
    .replace("{address}/24", "{address}/64")
    .replace("}/16", "}/64")
    .replace("ICMP ", "ICMPv6 ")
    .replace("172.16.13.13", "fd00:16::13")
    .replace("172.17.0.", "fd00:17::")
)
"""The story over IPv6."""
for _name in ("address", "bridge", "client"):  # before a port an IPv6 address stands in brackets
    SIX = SIX.replace(f"{{{_name}}}:", f"[{{{_name}}}]:")


def changed(text: str, old: str, new: str) -> str:
    """The text with one passage replaced, which must be there."""
    assert old in text
    return text.replace(old, new, 1)


def fixes(*lines: str, story: str = STORY) -> str:
    """The story with these lines for its [fixes.expect]."""
    return story.partition("[fixes.expect]")[0] + "\n".join(["[fixes.expect]", *lines])

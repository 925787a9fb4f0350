"""Times as options have them."""

from __future__ import annotations

import re

import click

UNITS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600}
"""Of times, as ncat has them."""


def seconds(text: str) -> float:
    """A time as an option has it: `2`, `0.5`, `500ms`, `-1`."""
    match = re.fullmatch(r"(-?[0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|)", text, re.ASCII)
    if not match:
        raise click.BadParameter(f"{text} is not a number of seconds")
    return float(match[1]) * UNITS[match[2]]

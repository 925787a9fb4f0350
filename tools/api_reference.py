"""Prints docs/sockets-api.md from the docstrings of the sources: `make docs`.

griffe reads the sources without importing them: the native module's stub, and the strings below fields. Ours
are the order and the Markdown: griffe prints none, and knows no docstrings without sections.
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import griffe

ROOT = Path(__file__).parents[1]

CHAPTERS = {
    "Sockets": "Socket AsyncSocket sockets.common.Common sockets.opening.Options",
    "Datagrams": "Datagram facts.Endpoint sockets.opening.Peer sockets.common.Data facts.Address",
    "Errors": "ErrorReport NetworkError Refused Prohibited TruncatedControl",
    "Drop-ins": "PacketInfoSocket PeerAddress PacketInfoMixIn create_datagram_endpoint "
    "sockets.datagram_endpoint.DatagramTransport",
}
"""In this order, as seen from `udpkit`; what is further away explains the others."""

TITLES = {"Common": "Both sockets"}

PREFACE = """\
# API reference of the sockets

From the docstrings, by `make docs`. The guide is [sockets.md](sockets.md). Names are in `udpkit`, as in
`from udpkit import Socket`; those in *italics* are not, and explain the others.

"""


def python(code: str) -> str:
    return f"```python\n{code.strip()}\n```"


def signature(function: griffe.Function, name: str) -> str:
    """As a definition, which ruff can lay out; `reference` then makes it a call."""
    call = function.signature(name=name, return_type=function.name != "__init__")
    return python(f"{'async ' if 'async' in function.labels else ''}def {call}: ...")


def text(thing: griffe.Object) -> str:
    """The docstring: a line about a parameter becomes a list's, a doctest a block of code."""
    if not thing.docstring:
        sys.exit(f"api_reference: no docstring: {thing.path}")
    doc = thing.docstring.value.replace("``", "`")
    if isinstance(thing, griffe.Function):
        names = "|".join(parameter.name for parameter in thing.parameters)
        doc = re.sub(rf"(?m)^({names}): ", r"- `\1`: ", doc)
    prompts = r"(?m)^.{3} ?| *# doctest:.*"
    return re.sub(
        r"(?m)(^(>>>|\.\.\.).*\n?)+", lambda found: python(re.sub(prompts, "", found[0])) + "\n", doc
    ).strip()


def field(thing: griffe.Attribute) -> str:
    kind = str(thing.annotation).replace("'", '"')
    settable = " May be set." if "writable" in thing.labels else ""
    return f"- `{thing.name}: {kind}`\n" + textwrap.indent(text(thing) + settable, "  ")


def members(thing: griffe.Class) -> Iterator[str]:
    """A class's constructor, its fields and properties, its methods."""
    if bases := [f"`{base}`" for base in thing.bases if str(base) not in TITLES]:
        yield f"A kind of {', '.join(bases)}."
    constructor = thing.members.get("__init__")
    if isinstance(constructor, griffe.Function) and constructor.docstring:
        if thing.name not in TITLES:
            yield signature(constructor, thing.name)
        yield text(constructor)
        if "options" in constructor.parameters:
            yield "Which `options` there are: [Options](#options)."
    public = [member for name, member in thing.members.items() if not name.startswith("_")]
    if fields := [field(member) for member in public if isinstance(member, griffe.Attribute)]:
        yield "\n".join(fields)
    for method in public:
        if isinstance(method, griffe.Function):
            yield f"#### {method.name if thing.name in TITLES else f'{thing.name}.{method.name}'}"
            yield from (signature(method, method.name), text(method))


def entry(thing: griffe.Object) -> Iterator[str]:
    """A name's part of the reference, paragraph by paragraph."""
    if isinstance(thing, griffe.Attribute):
        yield python(f"{thing.name} = {thing.value}")
    elif isinstance(thing, griffe.Function):
        yield signature(thing, thing.name)
    yield text(thing)
    if isinstance(thing, griffe.Class):
        yield from members(thing)
    path = f"src/{thing.relative_package_filepath}"
    yield f"Source: [{path}](../{path})"


def reference() -> str:
    udpkit = griffe.load("udpkit", search_paths=[ROOT / "src"], allow_inspection=False)
    contents, body = PREFACE, []
    for chapter, paths in CHAPTERS.items():
        links = []
        body.append(f"## {chapter}")
        for path in paths.split():
            thing = udpkit[path]
            title = TITLES.get(thing.name, thing.name)
            link = f"[{title}](#{title.lower().replace(' ', '-')})"
            links.append(f"*{link}*" if "." in path else link)
            body += [f"### {title}", *entry(thing.final_target if thing.is_alias else thing)]
        contents += f"- {chapter}: {' · '.join(links)}\n"
    document = "\n\n".join([contents.strip(), *body]) + "\n"
    ruff = [sys.executable, "-m", "ruff", "format", "--quiet", "--stdin-filename=sockets-api.md", "-"]
    laid_out = subprocess.run(ruff, input=document, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True)
    return re.sub(r"(?m)^(```python\n(?:async )?)def ([^`]*): \.\.\.$", r"\1\2", laid_out.stdout)


if __name__ == "__main__":
    sys.stdout.write(reference())

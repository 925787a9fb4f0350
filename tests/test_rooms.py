"""The pure rooms do no I/O, and an import costs no more than what it names."""

import subprocess
import sys

import pytest

import udpkit
import udpkit.sockets


def imported_by(statement: str) -> set[str]:
    """What a fresh interpreter loads when it runs `statement`, beyond what it had already."""
    program = f"import sys; had = set(sys.modules); {statement}; print(*(set(sys.modules) - had))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


EVERY_MODULE = """
import importlib, pkgutil
for module in pkgutil.walk_packages(room.__path__, room.__name__ + '.'):
    importlib.import_module(module.name)
"""


@pytest.mark.parametrize("room", ["facts", "kernel", "diagnosis"])
def test_a_pure_room_loads_neither_sockets_nor_the_native_module(room):
    loaded = imported_by(f"from udpkit import {room} as room; exec({EVERY_MODULE!r})")
    assert f"udpkit.{room}" in loaded
    assert not loaded & {"socket", "_socket", "udpkit._native", "subprocess", "asyncio"}


def test_the_facts_import_nothing_else_of_ours():
    loaded = imported_by("import udpkit.facts")
    assert {name.split(".")[1] for name in loaded if name.startswith("udpkit.")} == {"facts"}


def test_the_package_offers_what_its_sockets_offer():
    assert udpkit.__all__ == udpkit.sockets.__all__
    assert [name for name in udpkit.__all__ if getattr(udpkit, name) is None] == []


def test_the_package_alone_loads_nothing():
    assert imported_by("import udpkit") == {"udpkit"}

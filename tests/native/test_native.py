"""The edges of the native module; what it does is tested where it is used."""

import ast
import errno
import os
from pathlib import Path

import pytest

import udpkit
from udpkit import _native

STUB = Path(udpkit.__file__).with_name("_native.pyi")
CLONE_FILES = 0x400


def test_the_stub_names_everything_and_nothing_else():
    assigned = (node for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.Assign))
    [names] = [ast.literal_eval(node.value) for node in assigned if node.targets[0].id == "__all__"]
    assert names == sorted(name for name in dir(_native) if not name.startswith("_"))


@pytest.mark.parametrize("flags", [CLONE_FILES, _native.CLONE_NEWNET | CLONE_FILES, -1, 1 << 40])
def test_only_namespaces_can_be_asked_for(flags):
    with pytest.raises(ValueError, match="namespaces"):
        _native.unshare(flags)
    with pytest.raises(ValueError, match="namespaces"):
        _native.setns(0, flags)


@pytest.mark.parametrize("descriptor", [-1, 1 << 20])
def test_a_closed_descriptor_is_an_os_error_with_its_number(descriptor):
    with pytest.raises(OSError, match=f"Errno {errno.EBADF}]"):
        _native.setns(descriptor, 0)


def test_a_descriptor_that_is_no_namespace_is_invalid(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match=f"Errno {errno.EINVAL}]"):
            _native.setns(descriptor, _native.CLONE_NEWNET)
    finally:
        os.close(descriptor)


def test_captures_are_values_that_only_the_reader_makes():
    with pytest.raises(TypeError):
        _native.PcapFile()

import errno

import pytest

from udpkit.kernel.functions import FUNCTIONS
from udpkit.kernel.icmp import KINDS, PORT_UNREACHABLE, name

MEASURED = [  # code of ICMP type 3, errno, does a connected socket without IP_RECVERR hear of it
    (3, errno.ECONNREFUSED, True),
    (2, errno.ENOPROTOOPT, True),
    (9, errno.ENETUNREACH, True),
    (10, errno.EHOSTUNREACH, True),
    (13, errno.EHOSTUNREACH, True),
    (0, errno.ENETUNREACH, False),
    (1, errno.EHOSTUNREACH, False),
    (4, errno.EMSGSIZE, True),
]


@pytest.mark.parametrize(("code", "error", "heard"), MEASURED)
def test_a_connected_socket_is_told_what_was_measured(code, error, heard):
    assert (KINDS[4, 3, code].errno, KINDS[4, 3, code].hard) == (error, heard)


@pytest.mark.parametrize("kind", sorted(PORT_UNREACHABLE))
def test_port_unreachable_means_refused(kind):
    assert (KINDS[kind].name, KINDS[kind].errno, KINDS[kind].hard) == (
        "port unreachable",
        errno.ECONNREFUSED,
        True,
    )


def test_what_no_standard_names_is_numbered():
    assert name(4, 3, 3) == name(6, 1, 4) == "port unreachable"
    assert name(6, 3, 3) == "type 3 code 3"


@pytest.mark.parametrize("version", [4, 6])
def test_every_function_is_called_by_its_name_in_the_kernel(version):
    functions = FUNCTIONS[version]
    for function in (functions.route, functions.connect, functions.lookup, functions.refuse, functions.hear):
        assert function.endswith("()")
        assert ("6" in function) == (version == 6)

"""What this process may do."""

from __future__ import annotations

from pathlib import Path

CAPABILITIES = {"CAP_DAC_OVERRIDE": 1, "CAP_NET_ADMIN": 12, "CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21}
"""Their bits (linux/capability.h)."""


def lacking(*names: str) -> list[str]:
    """Those of the capabilities that it does not have in its user namespace (capabilities(7))."""
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    return [name for name in names if not effective & 1 << CAPABILITIES[name]]


def is_in_first_user_namespace() -> bool:
    """In another one capabilities are about less (user_namespaces(7))."""
    return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]

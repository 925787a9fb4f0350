"""What this process may do."""

from __future__ import annotations

import re
from pathlib import Path

CAP_SYS_ADMIN = 1 << 21


def is_real_root() -> bool:
    """May enter other namespaces, and is not merely root of a user namespace."""
    effective = re.search(r"CapEff:\s*(\w+)", Path("/proc/self/status").read_text())
    inside, outside, *_ = Path("/proc/self/uid_map").read_text().split()
    return bool(effective and int(effective[1], 16) & CAP_SYS_ADMIN) and (inside, outside) == ("0", "0")

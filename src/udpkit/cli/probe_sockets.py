"""What to say where there can be no socket to probe from."""

from __future__ import annotations

import errno

from udpkit.cli.exits import USAGE, Failure
from udpkit.probe.wire import Settings


def no_socket(settings: Settings, error: OSError) -> Failure:
    """One line that names the option to blame."""
    reason = (error.strerror or str(error)).partition(":")[0]
    if settings.interface and error.errno == errno.ENODEV:
        return Failure(f"--interface {settings.interface}: {reason}", USAGE)
    return Failure(f"--source {settings.source}: {reason}" if settings.source else reason, USAGE)

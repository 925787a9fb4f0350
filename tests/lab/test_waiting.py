"""Waiting on conditions."""

from __future__ import annotations

import threading

import pytest

from udpkit.lab.errors import GivenUp
from udpkit.lab.waiting import Cancel, wait_until


def test_another_thread_ends_it() -> None:
    with Cancel() as cancel:
        other = threading.Thread(target=cancel.now)

        def never() -> None:
            if not other.ident:
                other.start()

        with pytest.raises(GivenUp):
            wait_until(never, [cancel], timeout=60, what="it goes on")
        other.join()

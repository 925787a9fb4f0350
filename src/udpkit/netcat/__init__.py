"""netcat: stdin to a peer, the peer to stdout, over UDP sockets that know who asked whom.

`udp` and `tcp` hold the exchanges, `plan` what the command line asks of them.
"""

from udpkit.netcat import tcp, udp
from udpkit.netcat.plan import Plan, Talk, Trouble

__all__ = ["Plan", "Talk", "Trouble", "run"]


def run(plan: Plan, talk: Talk) -> int:
    """Run it and return the exit code. Raises Trouble; BrokenPipeError when nobody reads stdout any more."""
    if plan.udp:
        return (udp.listen if plan.listen else udp.ask)(plan, talk)
    if plan.scan:
        return tcp.scan(plan, talk)
    return (tcp.listen if plan.listen else tcp.ask)(plan, talk)

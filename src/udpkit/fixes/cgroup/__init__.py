"""Programs that nobody can change answer from the address that was asked: eBPF on their cgroup.

Theory of operation. The programs of `crates/cgroup/bpf` note at which local address each peer asked, and
give that to answers as their source. They use only addresses that this room tells them (`addresses`): the
`local` routes of each network namespace in which the cgroup has processes, kept in step by rtnetlink(7)
notifications.

A program that connect()s its listener has its source from the routes. For it each local address has a mark,
a rule for that mark, and a table (`tables`): a copy of the main one, with that address as `src`. Rules and
routes carry a protocol number of ours, marks the slot of the fix, of which there are few, and tables its
instance, which is a number by chance. So whoever looks can tell whose they are, and what a fix that was
killed has left: its instance is not among those that are loaded. Nothing is kept in files.
"""

from udpkit.fixes.cgroup.keeper import AlreadyFixed, Keeper, clear_left, holder

__all__ = ["AlreadyFixed", "Keeper", "clear_left", "holder"]

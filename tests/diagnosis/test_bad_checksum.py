import pytest

from .facts_build import CLIENT, CLIENT6, SERVER, SERVER6, flow, found, refused, talk

CODE = "bad-checksum"
BAD, SOME = flow(3, 0, 5, bad=3), flow(3, 0, 5, bad=1)


@pytest.mark.parametrize(
    ("client", "server", "function"),
    [(CLIENT, SERVER, "__udp4_lib_rcv()"), (CLIENT6, SERVER6, "__udp6_lib_rcv()")],
)
def test_nothing_is_answered(client, server, function):
    one = found(talk(client, server, BAD, hears=True))[CODE]
    assert (one.severity, one.count) == ("warning", 3)
    assert (
        one.summary
        == f"3 of 3 datagrams from {client} to {server} have a wrong checksum, and none was answered."
    )
    assert one.why[0].startswith(f"{function} on the server")


def test_some_are_damaged_on_the_way():
    assert found(talk(CLIENT, SERVER, SOME, flow(2)))[CODE].severity == "note"


def test_so_may_be_answers():
    one = found(talk(CLIENT, SERVER, flow(3), SOME))[CODE]
    assert one.severity == "note"
    assert one.why[0].startswith("__udp4_lib_rcv() on the client")
    assert f"from {SERVER} to {CLIENT}" in one.summary


SILENT = {
    "a card that was to complete them: they are answered": talk(CLIENT, SERVER, BAD, flow(3)),
    "and so are those that are wrong in part": talk(CLIENT, SERVER, SOME, flow(3)),
    "addresses that were rewritten in the file": talk(CLIENT, SERVER, BAD, BAD),
    "answers of a card that was to complete them": talk(CLIENT, SERVER, flow(3), BAD),
    "a refusal: the kernel had found the checksum right": talk(
        CLIENT, SERVER, BAD, None, refused(), hears=True
    ),
    "only this direction was captured": talk(CLIENT, SERVER, BAD),
    "one datagram": talk(CLIENT, SERVER, flow(1, bad=1), hears=True),
    "multicast": talk("10.0.0.9:5353", "224.0.0.251:5353", BAD, hears=True),
    "syslog": talk(CLIENT, "10.0.0.1:514", BAD, hears=True),
    "right ones": talk(CLIENT, SERVER, flow(3), hears=True),
}


@pytest.mark.parametrize("conversation", SILENT.values(), ids=SILENT)
def test_silent_where(conversation):
    assert CODE not in found(conversation)

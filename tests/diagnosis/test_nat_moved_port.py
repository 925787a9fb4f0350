import pytest

from .facts_build import at, case, flow, found, refused, talk

CODE = "nat-moved-port"
CLIENT, SERVER, BEFORE, MOVED = (
    "172.17.0.3:38908",
    "172.16.13.13:56789",
    "172.17.0.1:56789",
    "172.16.13.13:1024",
)


def asked(*errors, strays):
    return talk(CLIENT, SERVER, flow(1), None, *errors, strays=strays)


BOTH = {BEFORE: flow(1, 1, source=1), MOVED: flow(1, 1.001)}


def test_both_sides_of_the_translation():
    one = found(asked(strays=BOTH))[CODE]
    assert (one.severity, one.actual) == ("warning", at(MOVED))
    assert f"left as {BEFORE} and was translated to {MOVED}" in one.summary
    assert "nf_nat_l4proto_unique_tuple()" in one.why[2]
    assert [seen.source for seen in one.evidence] == [0, 1, 0]


def test_it_is_an_error_where_the_client_refuses_it():
    assert found(asked(refused(MOVED, CLIENT, first=1.1), strays=BOTH))[CODE].severity == "error"


def test_the_refusal_may_be_translated_back_already():
    one = found(asked(refused(BEFORE, CLIENT, first=1.1), strays={MOVED: flow(1, 1)}))[CODE]
    assert one.severity == "error"
    assert f"left as {BEFORE}" in one.summary


SILENT = {
    "one side of it": asked(refused(MOVED, CLIENT, first=1.1), strays={MOVED: flow(1, 1)}),
    "a wrong address alone": asked(refused(BEFORE, CLIENT, first=1.1), strays={BEFORE: flow(1, 1)}),
    "two replies, far apart": asked(strays={BEFORE: flow(1, 1), MOVED: flow(1, 3)}),
    "two replies of different length": asked(strays={BEFORE: flow(1, 1), MOVED: flow(1, 1, largest=9)}),
    "a refusal that came before": asked(refused(BEFORE, CLIENT, first=0.5), strays={MOVED: flow(1, 1)}),
    "a server that answers as it should": talk(CLIENT, SERVER, flow(1), flow(1)),
    "TFTP": talk(
        CLIENT, "10.0.0.1:69", flow(1), None, strays={"10.0.0.1:3000": flow(1, 1), "10.1.0.1:69": flow(1, 1)}
    ),
}


@pytest.mark.parametrize("conversation", SILENT.values(), ids=SILENT)
def test_silent_where(conversation):
    assert CODE not in found(case(conversation))

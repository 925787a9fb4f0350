"""What an experiment file may say, and how a bad one is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.build import SILENT, STORY, changed
from udpkit.lab.errors import BadExperiment
from udpkit.lab.experiment import Say, Start
from udpkit.lab.reading import built_in, load, load_all, parse

ROOT = Path(__file__).parents[2]
START_CLIENT = '    { do = "start", program = "client" },\n'

BAD = {
    "unknown key": ("title =", "colour = 1\ntitle =", "colour"),
    "unknown key of a host": ("[hosts]\n", '[hosts]\nserver.color = "red"\n', "color"),
    "unknown key of a step": ('do = "say", ', 'do = "say", loud = 1, ', "loud"),
    "a name of its own": ("title =", 'name = "docker0-nc"\ntitle =', "name"),
    "missing key": ("findings = []", "", "findings"),
    "unknown step": ('do = "sockets"', 'do = "listen"', "listen"),
    "unknown host of a program": ('on = "client", run', 'on = "cleint", run', "cleint"),
    "unknown host of a step": ('do = "sockets", on = "server"', 'do = "sockets", on = "srv"', "srv"),
    "unknown host of a link": ('link = "server.eth0"', 'link = "srv.eth0"', "srv"),
    "link without interface": ('link = "server.eth0"', 'link = "server"', "server"),
    "unknown program": ('do = "start", program = "client"', 'do = "start", program = "clinet"', "clinet"),
    "unknown speaker": ('by = "client"', 'by = "clinet"', "clinet"),
    "unknown listener": ('to = "server"', 'to = "sever"', "sever"),
    "program never started": (START_CLIENT, "", "client"),
    "program without command line": ('run = "nc -ul {port}"', 'run = ""', "server"),
    "open quote in a command line": ("nc -ul {port}", "nc -ul '{port}", "nc -ul '56789"),
    "open quote in an address": ('["{address}/24"]', '["{address}\'/24"]', "172.16.13.13'"),
    "unknown interface": ('capture = ["server.eth0"]', 'capture = ["server.eth1"]', "eth1"),
    "the bridge of an engine that is not there": (
        'capture = ["server.eth0"]',
        'capture = ["server.docker0"]',
        "docker0",
    ),
    "open quote in an engine's options": (
        "[hosts]\n",
        '[hosts]\nserver.docker = { programs = [], options = "--x \'" }\n',
        "--x '",
    ),
    "interface with a space": ("server.interfaces.eth0", 'server.interfaces."eth 0"', "eth 0"),
    "interface with a quote": ("server.interfaces.eth0", 'server.interfaces."eth\'0"', "eth'0"),
    "interface with a line end": ("server.interfaces.eth0", 'server.interfaces."eth0\\n"', "eth0\\n"),
    "prefix too long": ('["{address}/24"]', '["{address}/33"]', "172.16.13.13/33"),
    "interface too long": (
        "server.interfaces.eth0",
        "server.interfaces.abcdefghij123456",
        "abcdefghij123456",
    ),
    "link to a bad interface": ('link = "server.eth0"', 'link = "server.a/b"', "a/b"),
    "host with a space": ("\nclient.interfaces", '\n"my client".interfaces', "my client"),
    "host with a dot": ("\nclient.interfaces", '\n"my.client".interfaces', "my.client"),
    "unknown kind": ('{ addresses = ["{address}/24"] }', '{ kind = "bond" }', "bond"),
    "macvlan without a parent": ('{ addresses = ["{address}/24"] }', '{ kind = "macvlan" }', "server.eth0"),
    "unknown placeholder": ('text = "{first}"', 'text = "{frist}"', "frist"),
    "a value that no placeholder can name": ("[values]", "[values]\nFirst = 1", "First"),
    "a value of another type": ("[values]", "[values]\nspare = 1.5", "spare"),
    "text for a number": ("port = 56789", 'port = "many"', "port"),
    "port beyond the last": ("port = 56789", "port = 65536", "65535"),
    "text for a list": ('capture = ["server.eth0"]', 'capture = "server.eth0"', "capture"),
    "unknown finding": ("findings = []", '[[expect.findings]]\ncode = "gremlins"', "gremlins"),
    "address twice": (
        '["{address}/24"]',
        '["{address}/24", "{address}/24"]',
        "172.16.13.13/24 is there twice",
    ),
    "column without cases": (
        'do = "say", ',
        'do = "say", column = "first", ',
        "step 4, column “first”: only a file with [cases]",
    ),
    "said to who prints more than the line": (
        'run = "nc -ul {port}"',
        'run = "talk serve --who 0.0.0.0 {port}"',
        "step 4: server prints its lines with --who",
    ),
    "a case of its own": ("title =", 'case = "one"\ntitle =', "case"),
    "bad TOML": ("[programs]", "[programs", "line"),
    "TOML nested too deeply": ("title =", f"x = {'[' * 5000}\ntitle =", "nested"),
    "a number too long": ("title =", f"x = {'1' * 5000}\ntitle =", "digits"),
    "a key with a line end": ("title =", '"a\\nb" = 1\ntitle =', "a\\nb"),
    "NUL in a command line": ("nc -ul {port}", "nc\\u0000 -ul {port}", "nc\\x00"),
}


FINDING = '[[expect.findings]]\ncode = "nobody-listens"'
PATTERNS = {
    "of a message": (
        "UDP {reply}",
        "udp {reply}",
        "expect.sequence, pattern 2: “172.16.13.13:56789 > 172.16.13.14:* udp world”: after its two ends",
    ),
    "of a message, with an address that nobody has": (
        '"{address}:{port} > ',
        '"172.16.13.31:{port} > ',
        "no host has 172.16.13.31, and no other line of the file names it: did you mean 172.16.13.1",
    ),
    "of a finding": (
        "findings = []",
        f'{FINDING}\nserver = "server:*"',
        "expect.findings, number 1, server: “server:*”: server is the name of a host; what is seen is its "
        "address: 172.16.13.13:*",
    ),
    "of a call": (
        "findings = []",
        'findings = []\ncalls.server = ["recfrom(*"]',
        "expect.calls.server, pattern 1: “recfrom(*”: recfrom is no call on a UDP socket that is watched:",
    ),
    "of a socket": (
        ' unconnected"',
        ' unconected"',
        "step 2, expect: “0.0.0.0:56789 unconected”: a socket is “a:p unconnected” or",
    ),
    "of what is printed": (
        START_CLIENT,
        START_CLIENT + '{ do = "prints", program = "client", text = "a\\nb" },',
        "step 4, text: “a\\nb”: a line has no line end within",
    ),
    "of what a command prints": (
        START_CLIENT,
        START_CLIENT + '{ do = "command", on = "client", run = "ip a", prints = ["a\\nb"] },',
        "step 4, prints: “a\\nb”: a line has no line end within",
    ),
    "of an error that talk tells": (
        START_CLIENT,
        START_CLIENT + '{ do = "prints", program = "client", text = "send: ECONREFUSED" },',
        "step 4, text: “send: ECONREFUSED”: there is no error called ECONREFUSED: did you mean ECONNREFUSED",
    ),
}


@pytest.mark.parametrize(("old", "new", "words"), PATTERNS.values(), ids=PATTERNS)
def test_a_pattern_that_nothing_fits_is_refused_with_its_place_and_what_would_be_right(
    old: str, new: str, words: str
) -> None:
    text = SILENT.replace('run = "nc -ul {port}"', 'run = "nc -ul {port}", trace = true')
    text = changed(changed(text, "nc -u {address}", "talk ask {address}"), old, new)
    with pytest.raises(BadExperiment) as refusal:
        parse("x", text, {})
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("findings = []", FINDING.replace("nobody", "nobdy"), "expect.findings: there is no finding called"),
        ("findings = []", FINDING.replace("nobody", "nobdy"), "did you mean nobody-listens"),
        (
            'on = "client", run',
            'on = "cleint", run',
            "programs.client.on: there is no host called cleint: did you",
        ),
        (
            'by = "client"',
            'by = "clinet"',
            "step 4: there is no started program called clinet: did you mean client",
        ),
        (
            'capture = ["server.eth0"]',
            'capture = ["server.eth1"]',
            "capture: there is no interface called server.eth1",
        ),
    ],
)
def test_a_name_that_is_not_there_is_blamed_by_its_place_with_the_nearest(
    old: str, new: str, words: str
) -> None:
    with pytest.raises(BadExperiment) as refusal:
        parse("x", changed(SILENT, old, new), {})
    assert words in str(refusal.value)


@pytest.mark.parametrize("name", built_in())
def test_no_pattern_of_the_catalogue_is_refused(name: str) -> None:
    assert load_all(built_in()[name])


def test_what_the_docs_show_loads() -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs/lab.md").read_text(), re.DOTALL | re.MULTILINE)
    assert [parse("x", block, {}).title for block in blocks]


@pytest.mark.parametrize(("old", "new", "culprit"), BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_refused_in_one_line_that_names_the_culprit(old: str, new: str, culprit: str) -> None:
    with pytest.raises(BadExperiment) as refusal:
        parse("x", changed(SILENT, old, new), {})
    assert culprit in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ('{ addresses = ["{address}/24"] }', '{ kind = "bond" }', "hosts.server.interfaces.eth0: "),
        ("[hosts]\n", '[hosts]\nserver.color = "red"\n', "hosts.server: "),
        ('run = "nc -ul {port}"', 'rnu = "nc -ul {port}"', "programs.server: "),
        (
            'do = "say", ',
            'do = "say", tow = 1, ',
            "step 4: Object contains unknown field `tow`: did you mean to?",
        ),
        ('do = "sockets"', 'do = "socket"', "step 2: do = “socket” is no step: did you mean sockets?"),
        ('do = "sockets"', "do = []", "step 2: do = “[]” is no step: there is: command, end, prints, "),
        (
            "findings =",
            "finding =",
            "expect: Object contains unknown field `finding`: did you mean findings?",
        ),
        (
            "capture =",
            "captures =",
            "Object contains unknown field `captures`: did you mean capture or cases?",
        ),
        (
            "findings = []",
            '[[expect.findings]]\ncode = "nobody-listens"\nclients = "*"',
            "expect.findings, number 1: Object contains unknown field `clients`: did you mean client?",
        ),
        (
            '{ addresses = ["{address}/24"] }',
            '{ addresses = ["{address}/24"], link = "client.eth0" }',
            "server.eth0 is the end of 2 cables",
        ),
    ],
)
def test_what_has_a_name_is_blamed_by_it(old: str, new: str, where: str) -> None:
    with pytest.raises(BadExperiment) as refusal:
        parse("x", changed(SILENT, old, new), {})
    assert str(refusal.value).startswith(where)


@pytest.mark.parametrize("key", ["values", "hosts", "expect"])
def test_a_number_where_a_table_belongs_is_refused(key: str) -> None:
    with pytest.raises(BadExperiment, match=key):
        parse("x", f"{key} = 1", {})


FIXES = {
    "unknown fix": ("bind = {", "bound = {", "bound"),
    "unknown exchange of a fix": ('bind = { connected = "works"', 'bind = { conected = "works"', "conected"),
    "unknown outcome": ('bind = { connected = "works"', 'bind = { connected = "helps"', "helps"),
    "unknown exchange": ('exchange = "nc"', 'exchange = "mc"', "mc"),
    "unknown server": ('[fixes]\nserver = "server"', '[fixes]\nserver = "sever"', "sever"),
}


@pytest.mark.parametrize(("old", "new", "culprit"), FIXES.values(), ids=FIXES.keys())
def test_bad_fixes_are_refused_like_the_rest(old: str, new: str, culprit: str) -> None:
    with pytest.raises(BadExperiment, match=culprit):
        parse("x", changed(STORY, old, new), {})


def test_values_override_those_of_the_file_wherever_they_stand() -> None:
    experiment = parse("mine", SILENT, {"port": "7777", "address": "10.0.0.1", "first": "good day"})
    assert experiment.name == "mine"
    assert experiment.hosts["server"].interfaces["eth0"].addresses == ["10.0.0.1/24"]
    assert experiment.programs["client"].run == "nc -u 10.0.0.1 7777"
    assert experiment.steps[0] == Start("server", 7777)
    assert experiment.steps[3] == Say("client", "server", "good day")
    assert experiment.expect.sequence[0] == "172.16.13.14:* > 10.0.0.1:7777 UDP good day"


def test_a_value_that_the_file_does_not_have_is_refused_with_those_it_has() -> None:
    with pytest.raises(BadExperiment, match=r"adress.*address, client, port"):
        parse("x", SILENT, {"adress": "10.0.0.1"})


def test_braces_that_hold_no_name_are_text() -> None:
    text = changed(SILENT, 'run = "nc -ul {port}"', "run = \"awk '{ print $1 }' {}\"")
    assert parse("x", text, {}).programs["server"].run == "awk '{ print $1 }' {}"


@given(st.text())
def test_any_text_is_an_experiment_or_is_refused(text: str) -> None:
    with pytest.raises(BadExperiment) as refusal:
        parse("x", text, {})
    assert len(str(refusal.value).splitlines()) <= 1


@given(st.data())
def test_any_damage_to_a_file_leaves_an_experiment_or_is_refused(data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(STORY)))
    gone = data.draw(st.integers(0, 40))
    put = data.draw(st.text("{}[]\"'=,.\n#\\u0123 abc", max_size=10))
    try:
        parse("x", STORY[:cut] + put + STORY[cut + gone :], {})
    except BadExperiment as refusal:
        assert len(str(refusal).splitlines()) == 1  # noqa: PT017 - it need not be raised


def test_a_file_is_named_by_its_stem_and_blamed_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SILENT)
    assert load(path, {"port": 1}).name == "mine"
    path.write_text("title = 1")
    with pytest.raises(BadExperiment, match=f"^{path}: "):
        load(path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"title = \xff\xfe")
    with pytest.raises(BadExperiment, match="utf-8"):
        load(path)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "mine.toml")


def test_what_comes_with_udpkit_is_well_formed() -> None:
    assert {"docker0-nc", "one-address-nc"} <= built_in().keys()
    for name, path in built_in().items():
        assert load(path).name == name


def test_twins_are_there_and_of_the_same_catalogue() -> None:
    twins = {name: load(path).twin for name, path in built_in().items()}
    assert {twin for twin in twins.values() if twin} <= twins.keys()
    assert [name for name, twin in twins.items() if twin == name] == []

"""docs/payloads.md says what the table of protocols has."""

from pathlib import Path

from udpkit.probe.protocols import PROTOCOLS

PAGE = Path(__file__).parents[3] / "docs" / "payloads.md"


def rows(columns: int) -> dict[str, list[str]]:
    """The rows of the table of so many columns, by the name in their first."""
    lines = (
        line.strip("| \n").split("|") for line in PAGE.read_text().splitlines() if line.startswith("| `")
    )
    cells = ([cell.strip() for cell in line] for line in lines)
    return {row[0].strip("`"): row for row in cells if (len(row) > 2) is (columns > 2)}


def test_each_protocol_has_its_row():
    written = [(name, row[1], row[2], row[6] if len(row) > 6 else "") for name, row in rows(7).items()]
    assert written == [
        (one.name, one.title, ", ".join(map(str, one.ports)), one.argument or "")
        for one in PROTOCOLS.values()
    ]


def test_the_silent_ones_say_why():
    assert {name: row[1] for name, row in rows(2).items()} == {
        name: one.quiet for name, one in PROTOCOLS.items() if one.quiet
    }

"""The benchmarks in their smallest form: that they run, and the numbers that are no times."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import main
from tests.benchmarks.clusters import count
from tests.benchmarks.plot import draw


def test_the_number_of_requests_is_linear_and_within_the_promise() -> None:
    found = {nodes: count(nodes) for nodes in (1, 3, 10, 100)}
    for nodes, (fresh, again) in found.items():
        assert fresh <= 8 * nodes + 10, nodes
        assert again <= 4 * nodes + 6, nodes
    for at, slope in ((0, 8), (1, 4)):
        # From 3 to 10 nodes as from 10 to 100: as much for each further node, and no more.
        steps = [
            (found[more][at] - found[fewer][at]) / (more - fewer)
            for fewer, more in ((3, 10), (10, 100))
        ]
        assert steps == [slope, slope]
    assert draw(found).count("<circle") == 8


@pytest.mark.parametrize(
    "part", ["start-up", "finish", "peers", "reaction", "requests", "scale", "adopt"]
)
def test_the_command(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COUCHDB_HOME", raising=False)
    target = tmp_path / "results.json"
    small = ["--runs", "1", "--nodes", "3", "--databases", "10"]
    assert main([*small, "--only", part, "--json", str(target)]) == 0
    rows = json.loads(target.read_text())["rows"]
    assert rows
    assert part != "adopt" or [row["met"] for row in rows if row["goal"]] == [True]
    shown = capsys.readouterr().out
    for row in rows:
        assert row["what"] in shown
        assert all(value >= 0 for value in row["runs"])


def test_a_part_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "nonsense"])
    assert "nonsense" in capsys.readouterr().err

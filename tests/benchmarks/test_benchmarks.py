"""The benchmarks in their smallest form: that they run, and the numbers that are no times."""

import json
from pathlib import Path

import pytest

from tests.benchmarks import clusters, measure
from tests.benchmarks.__main__ import main
from tests.benchmarks.clusters import count
from tests.benchmarks.plot import draw


@pytest.fixture(scope="module")
def requests() -> dict[int, tuple[int, int]]:
    """How many a fresh set takes, and a whole one, by the number of nodes."""
    return {nodes: count(nodes) for nodes in (1, 3, 10, 30)}


def test_the_number_of_requests_is_linear(requests: dict[int, tuple[int, int]]) -> None:
    """From 3 to 10 nodes as from 10 to 30: as much for each further node, and no more."""
    for at in (0, 1):
        slopes = [
            (requests[more][at] - requests[fewer][at]) / (more - fewer)
            for fewer, more in ((3, 10), (10, 30))
        ]
        assert slopes[0] == slopes[1]
    assert draw(requests).count("<circle") == 8


def test_a_run_that_finds_everything_done_keeps_to_the_promise(
    requests: dict[int, tuple[int, int]],
) -> None:
    for nodes, (_, again) in requests.items():
        assert again <= 7 * nodes + 8, nodes


def test_a_fresh_set_keeps_to_the_promise(requests: dict[int, tuple[int, int]]) -> None:
    for nodes, (fresh, _) in requests.items():
        assert fresh <= 14 * nodes + 12, nodes


@pytest.mark.parametrize(
    "part", ["start-up", "finish", "peers", "reaction", "requests", "scale", "adopt"]
)
def test_the_command(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COUCHDB_HOME", raising=False)
    monkeypatch.setattr(measure, "UNCOUNTED", 0)
    monkeypatch.setattr(clusters, "SETTLED", 0.3)
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

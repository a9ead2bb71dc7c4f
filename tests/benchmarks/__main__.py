"""``python -m tests.benchmarks``: everything measured side by side, as a table and as JSON."""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks import clusters, startup
from tests.benchmarks.measure import Row
from tests.benchmarks.plot import draw
from tests.support.releases import real_homes

HERE = Path(__file__).parent
SIZES = (1, 3, 10, 100, 1000)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, writes; 0 whatever the numbers are."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--runs", type=int, default=7, help="of which the median is taken [7]")
    parser.add_argument("--nodes", type=int, default=1000, help="for the scale [1000]")
    parser.add_argument("--databases", type=int, default=300, help="for adopt [300]")
    parser.add_argument("--only", action="append", metavar="PART", help="repeatable")
    whole = "written to; without --only results.json is"
    parser.add_argument("--json", type=Path, metavar="FILE", help=whole)
    options = parser.parse_args(arguments)
    runs = options.runs
    homes = [None, *real_homes()]

    def requests() -> list[Row]:
        rows, found = clusters.counts([size for size in SIZES if size <= options.nodes])
        if max(found) == max(SIZES):
            (HERE / "requests.svg").write_text(draw(found))
        return rows

    def finish() -> list[Row]:
        return [r for h in homes for n in (3, 5) for r in clusters.time_to_finish(runs, n, h)]

    def size() -> list[Row]:
        with tempfile.TemporaryDirectory() as folder:
            return clusters.installed(Path(folder) / "venv")

    parts: dict[str, Callable[[], list[Row]]] = {
        "start-up": lambda: startup.start_up(runs) + startup.no_op(runs),
        "finish": finish,
        "peers": lambda: (
            [r for h in homes for r in clusters.peers(runs, 3, h)] + clusters.computed()
        ),
        "reaction": clusters.pressure,
        "requests": requests,
        "scale": lambda: clusters.scale(options.nodes),
        "adopt": lambda: clusters.adoption(options.databases),
        "size": size,
    }
    if unknown := set(options.only or ()) - parts.keys():
        parser.error(f"{', '.join(sorted(unknown))}: the parts are {', '.join(parts)}")
    rows: list[Row] = []
    for name in options.only or parts:
        sys.stderr.write(f"{name} ...\n")
        found = parts[name]()
        rows += found
        sys.stdout.write(table(found) + "\n")
        sys.stdout.flush()
    machine = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
    }
    results = {"machine": machine, "runs": runs, "rows": [asdict(row) for row in rows]}
    path = options.json or (None if options.only else HERE / "results.json")
    if path is not None:  # one part alone does not replace the results of all
        path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    return 0


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown, the ratio first."""
    lines = []
    group = None
    for row in rows:
        if row.group != group:
            group = row.group
            lines += ["", f"**{group}**", "", "| ratio | against | what | median | goal | met |"]
            lines.append("|---:|---|---|---:|---|---|")
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        met = {None: "", True: "yes", False: "no"}[row.met]
        value = f"{row.value:.0f}" if row.value >= 100 or not row.unit else f"{row.value:.2f}"
        lines.append(
            f"| {ratio} | {row.against} | {row.what} | {value} {row.unit} | {row.goal} | {met} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

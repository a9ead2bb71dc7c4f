"""What docs/ says is what the program is: findings, conditions, steps, licences, the picture."""

import ast
import importlib.metadata
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from couchdiscover.sandbox import Sandbox
from couchdiscover.state.steps import StepKind
from tests.examples.conftest import ROOT
from tests.support import architecture
from tests.support.command import Command
from tests.support.markdown import anchors, rows

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
PAPERS = [*PAGES, *sorted(ROOT.glob("*.md")), ROOT / "tests/README.md", ROOT / "examples/README.md"]


def text(page: str) -> str:
    return (DOCS / page).read_text()


def made() -> Iterator[tuple[str, set[str]]]:
    """Each place of the program that makes a finding: its kind and its possible severities."""
    for path in (ROOT / "couchdiscover").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "Finding" and call.args:
                kind, severity = call.args[:2]
                assert isinstance(kind, ast.Constant), ast.unparse(call)
                names = re.findall(r"Severity\.(\w+)", ast.unparse(severity))
                yield str(kind.value), {name.lower() for name in names}


def test_the_findings_are_the_programs() -> None:
    known: dict[str, set[str]] = {}
    for kind, severities in made():
        known.setdefault(kind, set()).update(severities)
    told = {
        re.findall(r"`(\w+)`", kind)[0]: set(severity.split(", "))
        for kind, severity, _ in rows(text("findings.md"), "| finding |")
    }
    assert len(known) >= 10
    assert set(known) == set(told), "docs/findings.md has a section for each"
    for kind, severities in known.items():
        assert told[kind] == severities, kind
    assert set(told) <= anchors(text("findings.md"))


def test_the_conditions_and_keys_are_the_programs(
    sandbox: Callable[..., Sandbox], couchdiscover: Command
) -> None:
    result = couchdiscover("check", "-o", "json", environment=sandbox(2).environment()).json
    page = text("output.md")
    told = [re.findall(r"`(\w+)`", each[0])[0] for each in rows(page, "| condition |")]
    assert told == [each["type"] for each in result["conditions"]]
    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    shown = json.loads(example)
    assert set(result) - {"findings"} == set(shown)
    assert set(shown["nodes"][0]) <= set(result["nodes"][0])
    assert set(shown["conditions"][0]) == set(result["conditions"][0])


def test_the_steps_are_the_programs() -> None:
    known = {str(kind) for kind in StepKind}
    page = text("output.md")
    told = {re.findall(r"`(\w+)`", each[0])[0] for each in rows(page, "| step |")}
    assert told == known


def test_each_exit_code_has_its_section() -> None:
    page = text("exit-codes.md")
    listed = {int(n) for each in rows(page, "| code |") for n in re.findall(r"#(\d+)\)", each[0])}
    readme = rows((ROOT / "README.md").read_text(), "| code |")
    assert listed == {int(n) for each in readme for n in each[0].split(",")}
    assert {str(code) for code in listed} <= anchors(page)


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def test_every_page_can_be_found_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    linked = {name for page in [readme, *map(Path.read_text, PAGES)]
              for name in re.findall(r"\]\((?:docs/)?([\w-]+\.md)", page)}  # fmt: skip
    assert {path.name for path in PAGES} <= linked


def test_the_picture_is_drawn_from_the_imports() -> None:
    (picture,) = architecture.BLOCK.findall(text("how-it-works.md"))
    assert picture == architecture.drawn(), "draw it anew: nox -s picture"


def test_an_arrow_that_follows_from_others_is_left_out() -> None:
    imports = {"a": frozenset("bc"), "b": frozenset("c"), "c": frozenset[str]()}
    assert architecture.arrows(imports) == {("a", "b"), ("b", "c")}


# --- compatibility ---


COMPATIBILITY = rows(text("compatibility.md"), "| promise |")


@pytest.mark.parametrize("row", COMPATIBILITY, ids=lambda row: row[0])
def test_a_promise_says_what_was_run_and_how_to_run_it_again(row: list[str]) -> None:
    _, _, when, again = row
    assert when == "not tried" or re.fullmatch(r"20\d\d-[01]\d-[0-3]\d", when)
    files = re.findall(r"tests/[\w/]+\.py", again)
    assert files
    for name in files:
        assert (ROOT / name).exists(), name
    marked = {"-m proof" if name.startswith("tests/proof") else "" for name in files} - {""}
    marked |= {"-m e2e" if name.startswith("tests/e2e") else "" for name in files} - {""}
    assert all(mark in again for mark in marked), again
    noxfile = (ROOT / "noxfile.py").read_text()
    for session in re.findall(r"nox -s ([\w-]+)", again):
        name = session.replace("-", "_")
        assert re.search(rf"^def {name}_?\(", noxfile, re.MULTILINE), session


def test_what_the_readme_names_as_oldest_has_a_row() -> None:
    readme = (ROOT / "README.md").read_text()
    promises = " ".join(row[0] for row in COMPATIBILITY)
    for name in ("CouchDB", "Kubernetes", "Python"):
        (oldest,) = re.findall(rf"{name} (\d\.\d+) and newer", readme)
        assert re.search(rf"{name} [\d., ]*{re.escape(oldest)}", promises), name


# --- licences ---


SPDX = {
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "BSD License": "BSD-3-Clause",
}


def test_every_package_that_comes_along_has_its_licence() -> None:
    listed = {each[0].split()[0]: each[1] for each in rows(text("licences.md"), "| package |")}
    pinned = re.findall(r"^([\w-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert set(listed) == set(pinned)
    compared = 0
    for name, licence in listed.items():
        try:
            metadata = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        classifiers = [
            each.split(" :: ")[-1]
            for each in metadata.get_all("Classifier", [])
            if each.startswith("License ::")
        ]
        said = (metadata.get_all("License-Expression") or [""])[0] or next(
            (SPDX[each] for each in classifiers if each in SPDX), licence
        )
        assert said == licence, name
        compared += 1
    assert compared >= 10

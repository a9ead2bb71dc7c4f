"""The workflows: of GitHub's form, without the known holes, and about what is really here."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from couchdiscover import __version__
from tests.examples.conftest import EXAMPLES, ROOT

WORKFLOWS = [*sorted((ROOT / ".github" / "workflows").glob("*.yml")), EXAMPLES / "ci/workflow.yaml"]
each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(path.read_text(), Loader=yaml.BaseLoader)
    return found


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in load(path)["jobs"].values() for step in job.get("steps", [])]


@each_workflow
def test_actions_are_pinned_by_commit(path: Path) -> None:
    for line in path.read_text().splitlines():
        if found := re.search(r"uses: (?!\./)(.*)", line):
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", found[1]), line


def test_an_action_is_of_one_version_everywhere() -> None:
    used = {
        found for path in WORKFLOWS for found in re.findall(r"uses: (\S+@.*)", path.read_text())
    }
    assert len(used) == len({each.split("@")[0] for each in used})


@each_workflow
def test_least_permissions(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        if "uses" not in job:
            assert "timeout-minutes" in job
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false"


@each_workflow
def test_shell_scripts_are_shell(path: Path) -> None:
    for step in steps(path):
        script = re.sub(r"\$\{\{.*?\}\}", "x", step.get("run", "true"))
        subprocess.run(["bash", "-n", "-c", script], check=True)


def test_zizmor_finds_nothing() -> None:
    program = Path(sys.executable).with_name("zizmor")
    assert program.exists(), "zizmor comes with pip install '.[dev]'"
    ended = subprocess.run(
        [
            *(str(program), "--offline", "--no-progress", "--format=json"),
            *("--persona=pedantic", "--min-severity=medium", *map(str, WORKFLOWS)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(ended.stdout) == [], ended.stdout
    assert ended.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="not every other system has its package")
def test_actionlint_finds_nothing() -> None:
    program = Path(sys.executable).with_name("actionlint")
    assert program.exists(), "actionlint comes with pip install '.[dev]'"
    ended = subprocess.run([program, *WORKFLOWS], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


def test_end_to_end_covers_what_is_supported() -> None:
    path = ROOT / ".github/workflows/e2e.yml"
    job = load(path)["jobs"]["e2e"]
    matrix = job["strategy"]["matrix"]
    assert [version.rsplit(".", 1)[0] for version in matrix["couchdb"][:2]] == ["3.3", "3.4"]
    assert matrix["couchdb"][2].startswith("3.5.")
    assert len(matrix["kubernetes"]) == 3
    for each in matrix["kubernetes"]:
        assert each["image"].startswith(f"kindest/node:{each['version']}@sha256:")
    tests = "".join(path.read_text() for path in (ROOT / "tests/e2e").glob("*.py"))
    asked = set(re.findall(r"\bE2E_[A-Z_]+\b", tests))
    assert set(job["env"]) == asked


def test_the_release_publishes_what_the_examples_name() -> None:
    workflow = load(ROOT / ".github/workflows/release.yml")
    tags = "\n".join(
        step["with"]["tags"]
        for step in workflow["jobs"]["image"]["steps"]
        if "id" in step and "with" in step
    )
    tags = tags.replace("${{ steps.version.outputs.version }}", __version__)
    tags = tags.replace("${{ env.COUCHDB_VERSION }}", workflow["env"]["COUCHDB_VERSION"])
    manifests = "".join(path.read_text() for path in EXAMPLES.rglob("*.yaml"))
    named = set(re.findall(r"image: (ghcr\.io/\S+)", manifests))
    assert set(tags.split()) == named
    for job in ("pypi", "image"):
        assert set(workflow["jobs"][job]["needs"]) == {"e2e", "wheel"}
        assert workflow["jobs"][job]["permissions"]["id-token"] == "write"
    built = [
        step["with"]
        for step in workflow["jobs"]["image"]["steps"]
        if "platforms" in step.get("with", {})
    ]
    assert len(built) == 2
    for options in built:
        assert options["platforms"] == "linux/amd64,linux/arm64"
        assert (options["provenance"], options["sbom"]) == ("mode=max", "true")

"""The workflows: of GitHub's form, without the known holes, and about what is really here."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from couchdiscover import __version__
from tests.examples.conftest import EXAMPLES, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REPOSITORY = PROJECT["urls"]["Repository"]
OWNER = REPOSITORY.split("/")[-2]
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
    writers = [
        name
        for name, job in workflow["jobs"].items()
        if job.get("permissions", {}).get("contents") == "write"
    ]
    assert writers in ([], ["release"])
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
    tags = tags.replace("${{ github.repository_owner }}", OWNER)
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


def test_repository_and_images_have_one_name_everywhere() -> None:
    """pyproject.toml's Repository: `nox -s names` puts it wherever this finds another one."""
    assert f"https://github.com/{OWNER}/couchdiscover" == REPOSITORY
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("which files are the project's only git can tell: no git, or not a clone of it")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    named = set()
    for path in (ROOT / name for name in listed.stdout.split()):
        if (
            path.is_file()
            and path.suffix not in (".json", ".svg")
            and path.relative_to(ROOT).parts[0] != "tests"
        ):
            text = path.read_text()
            named |= set(re.findall(r"github\.com/([\w.-]+)/couchdiscover\b", text))
            named |= set(re.findall(r"ghcr\.io/([\w.-]+)/couch", text))
    assert named == {OWNER}
    tried = (ROOT / "tests/e2e/conftest.py").read_text()
    assert set(re.findall(r"ghcr\.io/([\w.-]+)/couch", tried)) == {OWNER}


def test_a_releases_text_is_its_section_of_the_changelog(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci/notes").write_text((ROOT / ".ci/notes").read_text())
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [Unreleased]\n\n- c\n\n## [1.1.0] - 2026-02-03\n\n### Added\n\n- b\n\n"
        "## [1.0.0] - 2026-01-02\n\n- a\n\n## [0.9.0]\n\n[Unreleased]: https://example.org\n"
    )

    def notes(version: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", str(tmp_path / ".ci/notes"), version]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert notes("1.1.0").stdout.strip() == "### Added\n\n- b"
    assert notes("1.0.0").stdout.strip() == "- a"
    for missing in ("0.9.0", "2.0.0", "1.1"):
        assert notes(missing).returncode == 1
        assert "says nothing about" in notes(missing).stderr


def test_the_changelog_keeps_a_changelogs_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    heads = re.findall(r"^## (.*)", text, re.MULTILINE)
    assert heads[0] == "[Unreleased]"
    for head in heads[1:]:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", head), head
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)", text, re.MULTILINE)) <= kinds
    for head in heads:
        name = head.split("]")[0].strip("[")
        assert re.search(rf"^\[{re.escape(name)}\]: https://", text, re.MULTILINE), name


def test_ci_tries_every_python_that_is_declared() -> None:
    declared = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    matrix = load(ROOT / ".github/workflows/ci.yml")["jobs"]["ci"]["strategy"]["matrix"]
    assert matrix["python"] == declared
    assert f">={declared[0]}" == PROJECT["requires-python"]
    assert f"PYTHONS = {declared}".replace("'", '"') in (ROOT / "noxfile.py").read_text()


def test_what_ci_does_is_what_the_readme_and_the_task_runner_do() -> None:
    """Its last part is the README's own tests, so that their closing line is the last one."""
    script = (ROOT / ".ci/run").read_text()
    sessions = set(re.findall(r"^@nox\.session.*?\ndef (\w+)", NOXFILE, re.MULTILINE | re.DOTALL))
    names = set(re.findall(r'name="([\w-]+)"', NOXFILE)) | sessions
    used = {
        name
        for line in re.findall(r"nox (?:--no-venv )?--session (.*)", script)
        for name in line.split()
    }
    assert used <= names
    assert {
        "format",
        "lint",
        "types",
        "imports",
        "proof",
        "package",
        "lowest",
        "new-pykube",
    } <= used
    assert "readme_command pytest" in script.rstrip().splitlines()[-1]
    readme = (ROOT / "README.md").read_text()
    for ending in ("couchdiscover demo", "pytest"):
        lines = re.findall(rf"^python3 -m venv .*{ending}$", readme, re.MULTILINE)
        assert len(lines) == 1, ending


def test_contributors_are_told_of_every_session() -> None:
    sessions = re.findall(r"^def (\w+)\(session", NOXFILE, re.MULTILINE)
    told = (ROOT / "CONTRIBUTING.md").read_text()
    assert len(sessions) >= 15
    for name in set(sessions) - {"dev"}:
        assert f"`{name.strip('_').replace('_', '-')}`" in told, name


NOXFILE = (ROOT / "noxfile.py").read_text()


def test_forms_are_of_githubs_form() -> None:
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    labels = {"type", "id", "attributes", "validations"}
    for path in folder.glob("*.yml"):
        form = load(path)
        if path.name == "config.yml":
            assert set(form) == {"blank_issues_enabled", "contact_links"}
            assert all(set(link) == {"name", "url", "about"} for link in form["contact_links"])
            continue
        assert {"name", "description", "body"} <= set(form)
        assert all(set(field) <= labels for field in form["body"])
        ids = [field["id"] for field in form["body"]]
        assert len(set(ids)) == len(ids)

"""The Containerfile: read as a builder reads it, and its install steps run without an engine."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest

from couchdiscover import __version__
from couchdiscover.sandbox import Sandbox
from tests.examples.conftest import ROOT
from tests.support.command import PASSWORD

dockerfile_parse = pytest.importorskip(
    "dockerfile_parse", reason="needs dockerfile-parse (pip install '.[dev]')"
)

CONTAINERFILE = ROOT / "Containerfile"
NOBODY = 65532
INSTALLED = Path("opt/couchdiscover")


@dataclass
class Stage:
    """A stage: what it starts from, and its instructions."""

    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def values(self, instruction: str) -> list[str]:
        return [value for name, value in self.steps if name == instruction]


def read() -> dict[str, Stage]:
    parser = dockerfile_parse.DockerfileParser(fileobj=BytesIO(CONTAINERFILE.read_bytes()))
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    for step in parser.structure:
        name, value = step["instruction"], step["value"]
        if name == "FROM":
            base, _, alias = value.partition(" AS ")
            current = stages[alias] = Stage(arguments.get(base.strip("${}"), base))
        elif name == "ARG" and not stages:
            key, _, default = value.partition("=")
            arguments[key] = default
        elif name != "COMMENT":
            current.steps.append((name, value))
    return stages


STAGES = read()
FINAL = ("couchdb", "couchdiscover")
BUILDS = {"couchdb": "couchdb-build", "couchdiscover": "build"}


def ancestry(name: str) -> Iterator[Stage]:
    """A stage and those it starts from: all whose layers are in the image."""
    while name in STAGES:
        yield STAGES[name]
        name = STAGES[name].base


def test_bases_are_pinned_and_slim() -> None:
    bases = {stage.base for stage in STAGES.values()} - set(STAGES)
    assert len(bases) == 2
    for base in bases:
        name, _, tag = base.rpartition(":")
        assert re.search(r"\d{8}|\d+\.\d+\.\d+", tag), base
        assert name.startswith("docker.io/library/")
    assert STAGES["python"].base.endswith("-slim")


def test_couchdiscover_is_what_a_build_makes_without_a_target() -> None:
    assert list(STAGES)[-1] == "couchdiscover"
    assert STAGES["couchdiscover"].values("ENTRYPOINT") == ['["/usr/local/bin/couchdiscover"]']
    assert STAGES["couchdb"].values("ENTRYPOINT") == []  # the official image's stays


@pytest.mark.parametrize("name", FINAL)
def test_the_result(name: str) -> None:
    stage = STAGES[name]
    (user,) = stage.values("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    (labels,) = stage.values("LABEL")
    for key in ("title", "description", "source", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{key}=" in labels
    installs = [run for each in ancestry(name) for run in each.values("RUN") if "apt-get" in run]
    assert installs
    for run in installs:
        packages = re.findall(r"install --yes --no-install-recommends ([\w. -]+?)\s*(?:&&|$)", run)
        assert packages == ["python3"]  # no pip, no compiler
        assert "rm -rf /var/lib/apt/lists/*" in run
    copies = [value for each in ancestry(name) for value in each.values("COPY")]
    assert copies == [f"--from={BUILDS[name]} /{INSTALLED} /{INSTALLED}"]


def test_both_images_are_installed_the_same() -> None:
    first, second = (STAGES[BUILDS[name]].steps for name in FINAL)
    assert first == second


def test_whatever_is_copied_is_in_the_context() -> None:
    lines = (ROOT / ".dockerignore").read_text().split()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    assert lines[0] == "*"
    for value in STAGES["build"].values("COPY"):
        for source in value.split()[:-1]:
            assert any(fnmatch(source, pattern) for pattern in allowed), source
            assert (ROOT / source).exists()


def test_the_requirements_are_the_projects_and_hashed() -> None:
    text = (ROOT / "requirements.txt").read_text()
    pins = re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE)
    names = {name for name, _ in pins}
    project = (ROOT / "pyproject.toml").read_text()
    block = re.search(r"^dependencies = \[(.*?)^\]", project, re.DOTALL | re.MULTILINE)
    assert block
    wanted = set(re.findall(r'"([a-z-]+)[><=]', block[1]))
    assert wanted <= names
    assert text.count("--hash=sha256:") >= len(pins)


# --- the install steps ---


@pytest.fixture(scope="module")
def installed() -> Iterator[Path]:
    """What COPY and RUN of the build stage leave, in a folder that everyone may read."""
    folder = Path(tempfile.mkdtemp(prefix="couchdiscover-image-"))
    folder.chmod(0o755)
    try:
        for value in STAGES["build"].values("COPY"):
            *sources, target = value.split()
            for source in sources:
                copy(ROOT / source, folder / target.strip("/"))
        (run,) = (run for run in STAGES["build"].values("RUN") if "apt-get" not in run)
        script = run.replace(f"/{INSTALLED}", f"{folder}/{INSTALLED}").replace(
            " /src", f" {folder}/src"
        )
        # The stage's python3 is a Debian's; ours is the one that runs the tests.
        script = re.sub(r"^python3\b", sys.executable, script)
        keep = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
        ended = subprocess.run(
            ["sh", "-euc", script], env=keep, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        yield folder
    finally:
        shutil.rmtree(folder)


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def test_nothing_to_build_or_install_with_is_left(installed: Path) -> None:
    (packages,) = (installed / INSTALLED / "lib").glob("python3*/site-packages")
    there = {path.name.split("-")[0].lower() for path in packages.iterdir()}
    assert "couchdiscover" in there
    assert not there & {"pip", "setuptools", "wheel", "hatchling", "pytest"}
    assert not list((installed / INSTALLED / "bin").glob("pip*"))


def test_everything_is_compiled_once_and_for_all(installed: Path) -> None:
    for source in (installed / INSTALLED).rglob("*.py"):
        (compiled,) = (source.parent / "__pycache__").glob(f"{source.stem}.cpython-*.pyc")
        # PEP 552: hash-based, and not checked against the source
        assert compiled.read_bytes()[4:8] == b"\x01\x00\x00\x00", compiled


def unprivileged(installed: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs the installed program as nobody, with every file system read-only."""
    program = str(installed / INSTALLED / "bin" / "couchdiscover")
    lacking = [tool for tool in ("unshare", "setpriv") if shutil.which(tool) is None]
    lacking += [] if os.getuid() == 0 else ["root's rights"]
    if lacking:
        pytest.skip(
            "to run the program as an unprivileged user on read-only file systems, as in the "
            f"image, takes root, unshare and setpriv: lacking {' and '.join(lacking)}"
        )
    inner = (
        "mount --make-rprivate / && mount -o remount,bind,ro / && "
        f"! touch {installed}/x 2>/dev/null && cd / && "
        f"exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --no-new-privs "
        '--bounding-set -all --inh-caps -all "$@"'
    )

    def become(*command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["unshare", "--mount", "sh", "-euc", inner, "sh", *command],
            env={"PATH": "/usr/bin:/bin", "HOME": "/", **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    # What this machine keeps from root, and its Python from nobody, is no fault of the image's.
    mounting = become("true")
    if mounting.returncode != 0:
        pytest.skip(
            "root may not mount file systems read-only here, as in a container without "
            f"CAP_SYS_ADMIN: {mounting.stderr.strip()}"
        )
    python = str(Path(sys.executable).resolve())
    if become(python, "-I", "-c", "pass").returncode != 0:
        pytest.skip(f"{python}, the Python of these tests, cannot be run by an unprivileged user")
    return partial(become, program)


def test_it_starts_unprivileged_on_a_read_only_root(installed: Path) -> None:
    ended = unprivileged(installed)("--version")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert __version__ in ended.stdout


def test_it_does_its_whole_job_there(
    installed: Path, sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    run = unprivileged(installed)
    box = sandbox(3)
    for path in (box.kubeconfig.parent, box.kubeconfig):
        path.chmod(0o755)
    login = {"COUCHDB_USER": "admin", "COUCHDB_PASSWORD": PASSWORD}
    ended = run(**box.environment(), **login)
    assert ended.returncode == 0, ended.stderr
    assert {box.node(pod).state for pod in box.pods} == {"cluster_finished"}

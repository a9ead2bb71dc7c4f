"""The one task runner. `nox --list` tells the sessions; without `-s` those of a change are run.

Every session makes an environment of its own. `nox --no-venv -s NAME` uses the one that nox itself
is in, which then must have the `dev` extra.
"""

import os
import re
import shutil
import sys
import tomllib
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DECISION = [
    f"tests/unit/test_{name}.py"
    for name in (
        "whole_set",
        "own_pod",
        "merging",
        "refusals",
        "membership",
        "identity",
        "conditions",
        "findings",
        "findings_of_volumes",
        "simulation",
        "verification",
        "volume_verdicts",
        "volumes",
        "copies",
        "adoption",
        "adoption_ends",
    )
]
"""The tests of the decision, by module."""
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]

# So that --no-venv finds the tools beside nox, also where that environment is not activated.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

nox.needs_version = ">=2025.5.1"
nox.options.sessions = ["format", "lint", "types", "imports", "unit"]
nox.options.error_on_missing_interpreters = False


def dev(session: nox.Session) -> None:
    """The project with its developers' tools, as a wheel: what is tested is what ships."""
    if session.venv_backend != "none":
        session.install(".[dev]")


@nox.session(name="format", tags=["static"])
def format_(session: nox.Session) -> None:
    """The format, checked; `nox -s format -- --fix` mends it."""
    dev(session)
    session.run("ruff", "format", *([] if "--fix" in session.posargs else ["--check"]), ".")


@nox.session(tags=["static"])
def lint(session: nox.Session) -> None:
    """ruff over everything; `nox -s lint -- --fix` mends what can be."""
    dev(session)
    session.run("ruff", "check", *session.posargs, ".")


@nox.session(tags=["static"])
def types(session: nox.Session) -> None:
    """mypy, strict."""
    dev(session)
    session.run("mypy", *session.posargs)


@nox.session(tags=["static"])
def imports(session: nox.Session) -> None:
    """The contracts between the folders (pyproject.toml)."""
    dev(session)
    session.run("lint-imports")


@nox.session
def unit(session: nox.Session) -> None:
    """The tests of single modules: seconds."""
    dev(session)
    session.run("pytest", "tests/unit", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """What the unit tests alone run, by branches: all of the decision, 85 % of the program."""
    dev(session)
    # The same examples each time: a branch must not be run by luck.
    same = "--hypothesis-profile=ci"
    session.run("pytest", "tests/unit", "--cov", "--cov-report=", same, *session.posargs)
    decision, program = ["--include=*/couchdiscover/decide/*"], ["--omit=*/couchdiscover/sandbox/*"]
    session.run("coverage", "report", *decision, "--fail-under=100", "--show-missing")
    session.run("coverage", "report", *program, "--fail-under=85")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests but the proofs and the real clusters, with every Python that is here."""
    dev(session)
    session.run("pytest", *session.posargs)


@nox.session
def proof(session: nox.Session) -> None:
    """The proofs: killed anywhere, raced, fed anything. Minutes; most of them wait."""
    dev(session)
    parallel = [] if "-n" in session.posargs else ["-n", "2", "--dist", "loadfile"]
    session.run("pytest", "-m", "proof", "tests", *parallel, *session.posargs)


@nox.session
def e2e(session: nox.Session) -> None:
    """The examples on the cluster that KUBECONFIG names (tests/README.md)."""
    dev(session)
    session.run("pytest", "-m", "e2e", *session.posargs)


@nox.session
def lowest(session: nox.Session) -> None:
    """With the lowest versions of the dependencies that pyproject.toml admits."""
    session.install(".[dev]")
    session.install(*lowest_requirements())
    session.run("pytest", "tests/unit", "tests/commands/test_both.py", *session.posargs)


@nox.session(name="new-pykube")
def new_pykube(session: nox.Session) -> None:
    """With pykube-ng's fork in its place: the same import name, and still maintained."""
    session.install(".[dev]")
    session.run("pip", "uninstall", "--quiet", "--yes", "pykube-ng", silent=True)
    session.install("new-pykube")
    session.run("pytest", "tests/unit", "tests/commands/test_both.py", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """The whole job on the sandbox; on real nodes where COUCHDB_HOME names a release."""
    session.install(".")
    session.run("couchdiscover", "demo", *session.posargs)


@nox.session
def package(session: nox.Session) -> None:
    """The sdist, and the wheel that is made from it: installed alone, and started in every way."""
    dist = Path(session.create_tmp()) / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.install("build")
    session.run("python", "-m", "build", "--outdir", str(dist), silent=True)
    (wheel,) = dist.glob("*.whl")
    session.run("pip", "uninstall", "--quiet", "--yes", "build", "pyproject_hooks", silent=True)
    session.install(str(wheel))
    started = {
        str(session.run(*command, "--version", silent=True, external=False)).strip()
        for command in (
            ["python", "-m", "couchdiscover"],
            ["couchdiscover"],
            ["kubectl-couchdiscover"],
        )
    }
    version = wheel.name.split("-")[1]
    if started != {f"couchdiscover {version}"}:
        session.error(f"the wheel of {version} says it is {started}")
    session.install("pipx")
    session.run("pipx", "run", "--spec", str(wheel), "couchdiscover", "--version")


@nox.session
def mutation(session: nox.Session) -> None:
    """mutmut over the decision: how many changed lines the named test files notice."""
    chosen = session.posargs or DECISION
    copy = Path(session.create_tmp()) / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    for folder in ("couchdiscover", "tests/support"):
        shutil.copytree(ROOT / folder, copy / folder)
    for name in chosen:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    lines = [
        "[mutmut]",
        "source_paths=couchdiscover",
        "only_mutate=couchdiscover/decide/*.py",
        "also_copy=couchdiscover",
        "pytest_add_cli_args_test_selection=" + "\n    ".join(chosen),
        "pytest_add_cli_args=-k\n    not test_from_any_view",
    ]
    (copy / "setup.cfg").write_text("\n".join(lines) + "\n")
    session.install("mutmut", "pytest", "hypothesis", *PROJECT["project"]["dependencies"])
    session.chdir(copy)
    session.run("mutmut", "run")
    session.run("mutmut", "results")


@nox.session(venv_backend="none")
def names(session: nox.Session) -> None:
    """Puts the owner of pyproject.toml's Repository wherever it and its images are named."""
    owner = PROJECT["project"]["urls"]["Repository"].split("/")[-2]
    job = (ROOT / "examples" / "job" / "couchdiscover.yaml").read_text()
    (before,) = set(re.findall(r"ghcr\.io/([\w.-]+)/", job))
    listed = str(session.run("git", "ls-files", silent=True, external=True)).split()
    for path in (ROOT / each for each in listed):
        if path.suffix in (".json", ".svg") or not path.is_file():
            continue
        old = path.read_text()
        new = old.replace(f"github.com/{before}/couchdiscover", f"github.com/{owner}/couchdiscover")
        new = new.replace(f"ghcr.io/{before}/", f"ghcr.io/{owner}/")
        new = new.replace(f"--owner {before}", f"--owner {owner}")
        if new != old:
            path.write_text(new)
            session.log(f"changed {path.relative_to(ROOT)}")


@nox.session
def picture(session: nox.Session) -> None:
    """Draws the picture in docs/how-it-works.md anew, from the imports."""
    dev(session)
    session.run("python", "-m", "tests.support.architecture", env={"PYTHONPATH": str(ROOT)})


@nox.session
def requirements(session: nox.Session) -> None:
    """Pins what the images bring along, for every Python and architecture: requirements.txt."""
    session.install("uv")
    pinned = ROOT / "requirements.txt"
    head = [line for line in pinned.read_text().splitlines() if line.startswith("#")]
    session.run(
        *("uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"),
        *("--generate-hashes", "--no-header", "--upgrade"),
        *("--output-file", str(pinned), "pyproject.toml"),
    )
    pinned.write_text("\n".join(head) + "\n" + pinned.read_text())


def lowest_requirements() -> list[str]:
    """``name==version`` for each dependency's ``>=``."""
    found = [
        re.match(r"([\w-]+)>=([\w.]+)", dependency)
        for dependency in PROJECT["project"]["dependencies"]
    ]
    if None in found:
        raise SystemExit("a dependency declares no lowest version")
    return [f"{match[1]}=={match[2]}" for match in found if match]

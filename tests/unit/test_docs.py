"""Where a reader is sent to exists."""

import re
import tomllib
from pathlib import Path

import pytest

from couchdiscover import errors
from couchdiscover.output.docs import DOCS, of_exit_code, of_finding

ROOT = Path(__file__).parents[2]
CODES = sorted(
    {
        *(0, 130, 143),
        *(
            each.exit_code
            for each in vars(errors).values()
            if isinstance(each, type) and issubclass(each, errors.CouchdiscoverError)
        ),
    }
)
KINDS = sorted(
    set(
        re.findall(
            r'Finding\(\s*"([a-z_]+)"',
            "".join(path.read_text() for path in (ROOT / "couchdiscover").rglob("*.py")),
        )
    )
)


def anchors(page: str) -> set[str]:
    """Those of a page's headings, as GitHub makes them, and those that are written out."""
    text = (ROOT / "docs" / page).read_text()
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    made = {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }
    return made | set(re.findall(r'<a (?:id|name)="([^"]+)"', text))


def pages() -> list[tuple[str, str]]:
    urls = [of_exit_code(code) for code in CODES] + [of_finding(kind) for kind in KINDS]
    return [tuple(url.removeprefix(f"{DOCS}/").split("#")) for url in urls]  # type: ignore[misc]


@pytest.mark.parametrize(("page", "anchor"), pages())
def test_the_documentation_has_it(page: str, anchor: str) -> None:
    assert anchor in anchors(page)


def test_the_address_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert len(CODES) >= 9
    assert len(KINDS) >= 10
    for name, url in project.get("urls", {}).items():
        if name in ("Source", "Repository"):
            assert DOCS.startswith(url)


def test_kubectl_finds_the_command() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["kubectl-couchdiscover"] == scripts["couchdiscover"]

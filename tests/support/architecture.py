"""The picture in docs/how-it-works.md: the program's folders and who imports whom, from the code.

``python -m tests.support.architecture`` draws it anew; a test compares it with the imports.
"""

import re
from pathlib import Path

import grimp

PROGRAM = "couchdiscover"
PAGE = Path(__file__).parents[2] / "docs" / "how-it-works.md"
BLOCK = re.compile(r"(?<=^```mermaid\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)
SHOWN = {"sandbox": "sandbox: a Kubernetes API and CouchDB nodes on loopback"}
LEFT_OUT = {"__init__", "__main__"}


def parts() -> dict[str, frozenset[str]]:
    """What each folder, or module beside the folders, imports of the others."""
    graph = grimp.build_graph(PROGRAM, cache_dir=None)
    names = {name.split(".")[1] for name in graph.modules if "." in name} - LEFT_OUT
    found: dict[str, set[str]] = {name: set() for name in names}
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            one, other = (f"{name}.".split(".")[1] for name in (importer, imported))
            if one in names and other in names and one != other:
                found[one].add(other)
    return {name: frozenset(imports) for name, imports in found.items()}


def arrows(imports: dict[str, frozenset[str]]) -> set[tuple[str, str]]:
    """The imports that do not follow from others: the transitive reduction (of no circles)."""

    def reached(name: str) -> frozenset[str]:
        below = imports[name]
        return below.union(*(reached(each) for each in below))

    return {
        (name, below)
        for name, direct in imports.items()
        for below in direct
        if not any(below in reached(other) for other in direct - {below})
    }


def drawn() -> str:
    """The picture as mermaid's text."""
    imports = parts()
    lines = [f"    {one} --> {other}" for one, other in sorted(arrows(imports))]
    lines += [f'    {name}["{text}"]' for name, text in SHOWN.items() if name in imports]
    return "\n".join(["graph TD", *lines]) + "\n"


def main() -> None:
    """Puts the picture into its page."""
    PAGE.write_text(BLOCK.sub(lambda _: drawn(), PAGE.read_text(), count=1))


if __name__ == "__main__":
    main()

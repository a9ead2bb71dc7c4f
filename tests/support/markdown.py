"""Tables, anchors and code spans of the documents, for the tests that compare them."""

import re


def rows(text: str, head: str) -> list[list[str]]:
    """The cells of the table whose first line begins so."""
    found = re.search(rf"^{re.escape(head)}.*\n\|[-| :]+\n((?:\|.*\n?)+)", text, re.MULTILINE)
    assert found, head
    return [
        [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
        for line in found[1].splitlines()
    ]


def anchors(text: str) -> set[str]:
    """Those that GitHub makes of headings, and those that are written out."""
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    made = {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }
    return made | set(re.findall(r'<a (?:id|name)="([^"]+)"', text))


def code(text: str) -> list[str]:
    """What stands in backticks, fenced blocks left out."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`]+)`", text)

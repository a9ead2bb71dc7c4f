"""Where the documentation tells more."""

DOCS = "https://github.com/couchdiscover/couchdiscover/blob/main/docs"
"""Its folder; the address of the repository is that in pyproject.toml."""


def of_exit_code(code: int) -> str:
    """What an exit code means, what to look at and what to do."""
    return f"{DOCS}/exit-codes.md#{code}"


def of_finding(kind: str) -> str:
    """What a finding of ``check`` means, and what to do."""
    return f"{DOCS}/findings.md#{kind}"

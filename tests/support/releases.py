"""The CouchDB releases that tests run against: simulated, and real where there are any."""

import os
from pathlib import Path

SIMULATED = ("3.5.2", "3.4.3", "3.3.3")
"""What is supported, and recorded; the newest first."""


def real_homes() -> list[Path]:
    """The releases that COUCHDB_HOME names: folders, several of them separated by ``:``."""
    return [Path(home) for home in os.environ.get("COUCHDB_HOME", "").split(os.pathsep) if home]


def release_of(home: Path) -> str:
    """The version of the release in a folder; the folder's name where none can be told."""
    try:
        return (home / "releases" / "start_erl.data").read_text().split()[1]
    except (OSError, IndexError):
        return home.name

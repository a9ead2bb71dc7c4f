"""The CouchDB releases that tests run against: simulated, and real where there are any."""

import os
from pathlib import Path

SIMULATED = ("3.5.2", "3.4.3", "3.3.3")
"""What is supported, and recorded; the newest first."""


def real_homes() -> list[Path]:
    """The releases that COUCHDB_HOME names: folders, several of them separated by ``:``."""
    return [Path(home) for home in os.environ.get("COUCHDB_HOME", "").split(os.pathsep) if home]


def release_of(home: Path) -> str:
    """The version of the release in a folder, by the application ``couch``; else its name."""
    found = sorted((home / "lib").glob("couch-[0-9]*"))
    return found[-1].name.removeprefix("couch-") if found else home.name

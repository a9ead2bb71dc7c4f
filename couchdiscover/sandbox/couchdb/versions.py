"""What differs between the releases of CouchDB, as far as whoever asks a node can see it.

Recorded from 3.3.3, 3.4.3 and 3.5.2; what is said of 1.x and 2.x is read in CouchDB's source.
"""

import re
from dataclasses import dataclass

_FEATURES = ("access-ready", "partitioned", "pluggable-storage-engines", "reshard", "scheduler")
_OLD_FEATURES = ("pluggable-storage-engines", "scheduler")
_GIT_SHA = {"3.5.2": "5b4d92103", "3.4.3": "e12b967", "3.3.3": "40afbcf", "2.3.1": "c298091a4"}


@dataclass(frozen=True, slots=True)
class Traits:
    """How a release behaves. Raises ValueError for what is no version."""

    version: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d+\.\d+(\.\d+)*", self.version):
            raise ValueError(f"{self.version!r} is no version of CouchDB")

    @property
    def number(self) -> tuple[int, ...]:
        """The version, to be compared."""
        return tuple(int(part) for part in self.version.split("."))

    @property
    def otp(self) -> str:
        """The Erlang/OTP release that it was recorded with, or that its official image has."""
        if self.number < (2,):
            return "17"
        if self.number < (3,):
            return "19"
        return "25" if self.number < (3, 4) else "27"

    @property
    def git_sha(self) -> str:
        """What ``GET /`` says of the commit; a release built from a tarball may say nothing."""
        return _GIT_SHA.get(self.version, "")

    @property
    def features(self) -> list[str]:
        """What ``GET /`` lists."""
        if self.number < (3,):
            return [*_OLD_FEATURES]
        return [*_FEATURES] if self.number < (3, 4) else ["quickjs", *_FEATURES]

    @property
    def clustered(self) -> bool:
        """Whether it knows of clusters at all."""
        return self.number >= (2,)

    @property
    def names_itself(self) -> bool:
        """Whether ``/_node/{name}`` answers, and what is below it leads to the node's files."""
        return self.number >= (3,)

    @property
    def strong_hashes(self) -> bool:
        """Whether passwords are hashed by SHA-256, 600,000 times, instead of SHA-1, 10 times."""
        return self.number >= (3, 4)

    @property
    def locks_out(self) -> bool:
        """Whether an account is locked after wrong passwords."""
        return self.number >= (3, 4)

    @property
    def checks_config_type(self) -> bool:
        """Whether a value for ``_config`` that is no string is refused instead of crashing."""
        return self.number >= (3, 4)

    @property
    def shares_secrets(self) -> bool:
        """Whether nodes tell each other the secrets that sign their sessions."""
        return self.number >= (3, 5, 2)

    @property
    def single_late(self) -> float:
        """How many seconds after the first answer ``single_node`` has made its databases."""
        return 0.0 if self.number >= (3, 4) else 0.4

"""Whom a request comes from."""

from dataclasses import dataclass

from couchdiscover.sandbox.couchdb.answers import fault


@dataclass(frozen=True, slots=True)
class User:
    """Whom a request comes from. Without a name it is anybody."""

    name: str | None = None
    roles: tuple[str, ...] = ()
    by: str | None = None
    """``cookie`` or ``default`` (basic authentication); None where nobody was authenticated."""

    @property
    def is_admin(self) -> bool:
        """Whether everything is allowed."""
        return "_admin" in self.roles

    def must_be_admin(self, reason: str = "You are not a server admin.") -> None:
        """Raises RefusalError for anybody but an admin: 401 also for a user who has logged in."""
        if not self.is_admin:
            raise fault(401, "unauthorized", reason)

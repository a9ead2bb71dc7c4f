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

    def must_be_admin(self) -> None:
        """Raises RefusalError for anybody but an admin."""
        if self.is_admin:
            return
        if self.name is None:
            raise fault(401, "unauthorized", "You are not a server admin.")
        raise fault(403, "forbidden", "You are not a server admin.")

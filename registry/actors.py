"""Who acts on the registry, and what their roles let them do. Pure.

Rules:
1. An operator may change everything. An owner decides about what its own subsystem offers. An integrator describes and
   registers what its own member offers, and decides nothing. An auditor reads everything and changes nothing.
2. Any registered subsystem may apply for itself and see what concerns it.
3. Roles are held by subsystems. The person acting (X-Road-UserId) is named in the record, and is the caller's word.
"""

from __future__ import annotations

from dataclasses import dataclass

from exchange import RoleMissingError, SubsystemId, member_of
from registry.records import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Somebody who acts, proven by a certificate, or at the machine itself."""

    subsystem: SubsystemId | None
    """None at the machine itself."""
    official: str = ""
    """The person acting, as the caller names them; at the machine itself, the user's name."""
    certificate: str = ""
    """SHA-256 fingerprint of the certificate, hex."""
    roles: frozenset[Role] = frozenset()

    @classmethod
    def operator(cls, by: str) -> Actor:
        """Who works at the machine itself, with the database at hand."""
        return cls(subsystem=None, official=by, roles=frozenset({"operator"}))

    @property
    def by(self) -> str:
        """As the record of changes names them: `CN/GOV/…/tax (张三)`."""
        if self.subsystem is None:
            return self.official
        return f"{self.subsystem} ({self.official})" if self.official else self.subsystem

    def holds(self, *roles: Role) -> bool:
        """Whether the actor holds one of the roles."""
        return not self.roles.isdisjoint(roles)

    def require(self, *roles: Role) -> None:
        """Return if the actor holds one of the roles; raises RoleMissingError."""
        if not self.holds(*roles):
            raise self._missing(" or ".join(roles), "或 ".join(roles))

    def require_owner_of(self, subsystem: SubsystemId) -> None:
        """Return if the actor may decide about what `subsystem` offers; raises RoleMissingError."""
        if not (self.holds("operator") or (self.subsystem == subsystem and self.holds("owner"))):
            raise self._missing(f"owner of {subsystem}", f"{subsystem} 的 owner ")

    def describes(self, subsystem: SubsystemId) -> bool:
        """Whether the actor may register and describe what `subsystem` offers."""
        ours = self.subsystem is not None and member_of(self.subsystem) == member_of(subsystem)
        return self.holds("operator") or (ours and self.holds("owner", "integrator"))

    def require_describer_of(self, subsystem: SubsystemId) -> None:
        """Return if the actor may register and describe what `subsystem` offers; raises RoleMissingError."""
        if not self.describes(subsystem):
            raise self._missing(f"owner or integrator for {subsystem}", f"{subsystem} 的 owner 或 integrator ")

    def _missing(self, role: str, role_zh: str) -> RoleMissingError:
        who = self.subsystem or self.by
        return RoleMissingError(
            problem=f"{who} does not hold the role {role}.", problem_zh=f"{who} 没有 {role_zh.strip()} 角色。"
        )

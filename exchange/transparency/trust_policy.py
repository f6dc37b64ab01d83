"""Whose word makes a checkpoint final: C2SP tlog-policy, the text that names logs, witnesses and the quorum.

Rules:
1. Reading is strict: what the specification does not allow is refused with the number of its line, for a policy that is read in
   two ways protects nobody.
2. Names live in the policy alone. A witness is known by its key; two lines with one key, under whatever names, are refused.
3. Each name is a member of at most one group, so that no witness counts twice.
4. Only `cryptography` and the standard library are imported: receipts are verified with this.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from exchange.transparency.checkpoint import NoteVerifier
from exchange.transparency.cosignature import CosignatureVerifier, check_cosignatures

NO_QUORUM = "none"
"""The quorum that asks for no cosignature."""

_MOST_CHARACTERS = 1 << 20
_MOST = 256
"""Of logs, of witnesses and of groups; the specification asks for 32."""
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_THRESHOLD = re.compile(r"[1-9][0-9]{0,3}")
_GAPS = re.compile(r"[ \t]+")
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class PolicyError(ValueError):
    """The text is not a policy."""


@dataclass(frozen=True, slots=True)
class PolicyLog:
    """A log whose checkpoints are accepted."""

    verifier: NoteVerifier
    url: str = ""


@dataclass(frozen=True, slots=True)
class PolicyWitness:
    """A witness, under the name it has in this policy."""

    name: str
    verifier: CosignatureVerifier
    url: str = ""
    """Its submission prefix (tlog-witness), without a slash at the end; empty if the policy is for verifying alone."""


@dataclass(frozen=True, slots=True)
class PolicyGroup:
    """Has witnessed a checkpoint if at least `threshold` of its members have: witnesses, or groups defined before it."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """Logs, witnesses, and the rule that decides when a checkpoint is final."""

    text: str
    logs: tuple[PolicyLog, ...]
    """May be empty: then the log is known from elsewhere."""
    witnesses: tuple[PolicyWitness, ...]
    groups: tuple[PolicyGroup, ...]
    quorum: str
    """Name of a witness or group, or `none`."""

    @classmethod
    def from_text(cls, text: str) -> TrustPolicy:
        """Parse a policy; raises PolicyError."""
        if len(text) > _MOST_CHARACTERS:
            raise PolicyError(f"a policy has at most {_MOST_CHARACTERS} characters")
        reading = _Reading()
        *lines, rest = text.split("\n")
        if rest:
            raise PolicyError(f"line {len(lines) + 1} does not end in a newline")
        for number, line in enumerate(lines, 1):
            try:
                reading.line(line)
            except ValueError as error:
                raise PolicyError(f"line {number}: {error}") from error
        if reading.quorum is None:
            raise PolicyError("there is no quorum line")
        logs, witnesses = tuple(reading.logs.values()), tuple(reading.witnesses.values())
        return cls(text, logs, witnesses, tuple(reading.groups.values()), reading.quorum)

    @classmethod
    def from_file(cls, path: Path) -> TrustPolicy:
        """Parse a file. What is not UTF-8 in it may stand in comments; raises PolicyError, OSError."""
        try:
            return cls.from_text(path.read_bytes().decode("utf-8", "surrogateescape"))
        except PolicyError as error:
            raise PolicyError(f"{path.name}: {error}") from error

    def satisfied_by(self, names: Collection[str]) -> bool:
        """Whether these witnesses, by their names in the policy, are a quorum."""
        return self.quorum == NO_QUORUM or self.quorum in self._witnessed(names)

    def missing(self, names: Collection[str]) -> list[str]:
        """If these witnesses are no quorum: those of the policy, in its order, whose word could still complete it."""
        if self.satisfied_by(names):
            return []
        witnessed = self._witnessed(names)
        open_yet = {self.quorum}
        for group in reversed(self.groups):  # members were defined before the group
            if group.name in open_yet - witnessed:
                open_yet.update(group.members)
        return [one.name for one in self.witnesses if one.name in open_yet - witnessed]

    def cosigned(self, note: str) -> dict[str, int]:
        """Which witnesses of the policy cosigned the checkpoint in a note: name in the policy -> POSIX time.

        The log's own signature is not checked (`open_checkpoint`).

        Raises:
            NoteError: Not a note, or a line with the name and id of a witness's key does not verify.
        """
        found: dict[str, int] = {}
        for witness in self.witnesses:
            if times := check_cosignatures(note, [witness.verifier]):
                found[witness.name] = times[witness.verifier.name]
        return found

    def _witnessed(self, names: Collection[str]) -> set[str]:
        """The witnesses and groups that have witnessed what these witnesses cosigned."""
        witnessed = {one.name for one in self.witnesses} & set(names)
        for group in self.groups:  # members were defined before the group
            if sum(member in witnessed for member in group.members) >= group.threshold:
                witnessed.add(group.name)
        return witnessed


class _Reading:
    """What the lines read so far have defined."""

    def __init__(self) -> None:
        self.logs: dict[bytes, PolicyLog] = {}
        self.witnesses: dict[bytes, PolicyWitness] = {}
        self.groups: dict[str, PolicyGroup] = {}
        self.quorum: str | None = None
        self._names: set[str] = set()
        self._members: set[str] = set()

    def line(self, line: str) -> None:
        """Take in one line, without its newline; raises ValueError."""
        if _FORBIDDEN.search(line):
            raise PolicyError("a control character; only tab and newline may stand in a policy")
        stripped = line.strip(" \t")
        if not stripped or stripped.startswith("#"):
            return
        keyword, *items = _GAPS.split(stripped)
        read = {"log": self._log, "witness": self._witness, "group": self._group, "quorum": self._quorum}.get(keyword)
        if read is None:
            raise PolicyError(f"{keyword!r} is none of log, witness, group and quorum")
        read(items)

    def _log(self, items: list[str]) -> None:
        if len(items) not in (1, 2):
            raise PolicyError("a log is defined by `log <vkey> [<url>]`")
        verifier = NoteVerifier.from_vkey(items[0])
        if verifier.public_key in self.logs:
            raise PolicyError("this log's key stands in a line above")
        _add(self.logs, verifier.public_key, PolicyLog(verifier, *items[1:]))

    def _witness(self, items: list[str]) -> None:
        if len(items) not in (2, 3):
            raise PolicyError("a witness is defined by `witness <name> <vkey> [<url>]`")
        verifier = CosignatureVerifier.from_vkey(items[1])
        if verifier.public_key in self.witnesses:
            raise PolicyError("this witness's key stands in a line above")
        name = self._defined(items[0])
        url = items[2].rstrip("/") if len(items) == 3 else ""
        _add(self.witnesses, verifier.public_key, PolicyWitness(name, verifier, url))

    def _group(self, items: list[str]) -> None:
        if len(items) < 3:
            raise PolicyError("a group is defined by `group <name> all|any|<k> <name>...`")
        name, how, *members = items
        for member in members:
            self._known(member)
            if member in self._members:
                raise PolicyError(f"{member!r} is a member of a group already")
            self._members.add(member)
        threshold = {"all": len(members), "any": 1}.get(how) or _threshold(how, len(members))
        _add(self.groups, name, PolicyGroup(self._defined(name), threshold, tuple(members)))

    def _quorum(self, items: list[str]) -> None:
        if len(items) != 1:
            raise PolicyError("the quorum is defined by `quorum <name>`")
        if self.quorum is not None:
            raise PolicyError("there is a quorum line above")
        if items[0] != NO_QUORUM:
            self._known(items[0])
        self.quorum = items[0]

    def _defined(self, name: str) -> str:
        if name == NO_QUORUM or name in self._names:
            raise PolicyError(f"the name {name!r} is taken")
        self._names.add(name)
        return name

    def _known(self, name: str) -> None:
        if name not in self._names:
            raise PolicyError(f"no line above defines {name!r}")


def _threshold(text: str, most: int) -> int:
    if not _THRESHOLD.fullmatch(text) or not int(text) <= most:
        raise PolicyError(f"how many of the group's {most} members suffice is all, any or a number from 1 to {most}")
    return int(text)


def _add(defined: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    if len(defined) == _MOST:
        raise PolicyError(f"more than {_MOST} logs, witnesses or groups")
    defined[key] = value

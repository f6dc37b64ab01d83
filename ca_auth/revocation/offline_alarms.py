"""What can be said about a trust file's CRLs from its files alone, without a running gateway: for `datong doctor`."""

from __future__ import annotations

from ca_auth.profiles.trust import Anchor, Trust
from ca_auth.revocation.crl_files import CrlFiles
from ca_auth.revocation.revocation_alarms import Alarm, about_end, about_nothing, about_problem
from ca_auth.validation.crl import RevocationList


def alarms_of_files(trust: Trust, now: float) -> list[Alarm]:
    """Alarms about CRLs in files and folders; reads them, so it blocks. Neither signatures nor addresses are looked at.

    Args:
        now: Unix seconds.
    """
    files = CrlFiles()
    return [alarm for anchor in trust.anchors for alarm in _of_anchor(anchor, files, now)]


def _of_anchor(anchor: Anchor, files: CrlFiles, now: float) -> list[Alarm]:
    revocation = anchor.revocation
    offered = files.look(revocation.crl_paths).values()
    alarms = [about_problem(anchor.name, problem, now) for each in offered for problem in each.problems]
    newest: dict[object, RevocationList] = {}
    for each in (one for source in offered for one in source.lists if one.crl is not None and one.defect is None):
        held = newest.get(each.scope)
        if held is None or each.number > held.number:
            newest[each.scope] = each
    ends = (about_end(anchor.name, each, revocation.grace, now) for each in newest.values())
    alarms += [alarm for alarm in ends if alarm is not None]
    if revocation.required and not newest and not revocation.crl_urls and revocation.ocsp == "off":
        alarms.append(about_nothing(anchor.name, anchor.name, required=True, now=now))
    return alarms

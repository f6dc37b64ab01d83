"""The trust file: what it says, whom it lets speak for whom, and how it is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from ca_auth.profiles import trust_format
from ca_auth.profiles.identity import Identity
from ca_auth.profiles.profiles import PROFILES
from ca_auth.profiles.trust import Anchor, MemberPattern, Revocation, Trust
from ca_auth.profiles.trust_file import read_trust
from exchange import MemberId, UnauthenticatedError, UnprocessableError, member_id, subsystem_id
from tests.ca_auth.profile_kit import (
    CODE,
    MEMBER,
    OTHER_CODE,
    OTHER_MEMBER,
    PERSON,
    PERSON_KEY,
    authority,
    certificate,
    organization_identifier,
    serial_number,
    unit,
)

DOCUMENTS = Path(__file__).parents[2] / "docs/profiles"

ROOT = authority("Root of the test")
OTHER_ROOT = authority("Another root of the test")
SUB = authority("Tax sub-CA", ROOT)
DEEPER = authority("Office sub-CA", SUB)

Writer = Callable[..., Path]


def fingerprint(of: x509.Certificate) -> str:
    return of.fingerprint(hashes.SHA256()).hex()


def key_id(of: x509.Certificate) -> str:
    return x509.SubjectKeyIdentifier.from_public_key(of.public_key()).digest.hex()


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Writes a trust file beside the roots it may name."""
    for name, root in (("root.pem", ROOT), ("other.pem", OTHER_ROOT)):
        (tmp_path / name).write_bytes(root.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "both.pem").write_bytes((tmp_path / "root.pem").read_bytes() + (tmp_path / "other.pem").read_bytes())

    def written(text: str, name: str = "trust.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return written


def by_uri(identifier: str, issuer: x509.Certificate) -> x509.Certificate:
    return certificate(uris=[f"datong:{identifier}"], issuer=issuer)


def refused(trust: Trust, *path: x509.Certificate) -> UnauthenticatedError:
    with pytest.raises(UnauthenticatedError) as caught:
        trust.principal(path)
    assert caught.value.detail_in("zh") != caught.value.detail_in("en")
    return caught.value


def complaint(path: Path) -> UnprocessableError:
    with pytest.raises(UnprocessableError) as caught:
        read_trust(path, person_key=PERSON_KEY)
    assert caught.value.rule == "trust-file"
    return caught.value


# What it says.

WHOLE = f"""
[[anchor]]
name = "e-government"
certificates = "root.pem"
profile = "organization-identifier"
instance = "CN"
class = "GOV"
subsystem_from = "organizational-unit"
members = ["CN/GOV/*"]
max_depth = 2
sub_cas = "listed"

[anchor.persons]
subsystem = "desk"
member = "CN/NAT/citizens"

[[anchor.sub_ca]]
sha256 = "{":".join(re.findall("..", fingerprint(SUB).upper()))}"
members = ["{MEMBER}", "CN/GOV/1199*"]

[[anchor.sub_ca]]
key_id = "{key_id(DEEPER)}"
members = ["*"]

[anchor.revocation]
crl = ["tax.crl", "crls/", "http://ca.example/tax.crl"]
ocsp = "aia"
required = true
grace_hours = 1.5

[[anchor]]
name = "ours"
certificates = "other.pem"

[[pin]]
subsystem = "{MEMBER}/tax"
certificates = ["{"AB" * 32}", "{"cd" * 32}"]

[[terminator]]
unix = "terminator.sock"

[[terminator]]
certificate = "{"0f" * 32}"
"""


def test_a_trust_file_says_what_its_keys_say(write: Writer, tmp_path: Path) -> None:
    trust = read_trust(write(WHOLE), person_key=PERSON_KEY)
    first, second = trust.anchors
    assert (first.name, first.certificates, first.profile.name) == ("e-government", (ROOT,), "organization-identifier")
    assert first.naming.member_of_code(CODE) == MEMBER
    assert first.naming.persons is not None
    assert (first.naming.persons.subsystem, first.naming.persons.member) == ("desk", "CN/NAT/citizens")
    assert first.members == (MemberPattern("CN/GOV/*"),)
    assert (first.max_depth, first.only_listed_sub_cas) == (2, True)
    assert [each.sha256 for each in first.sub_cas] == [fingerprint(SUB), None]
    assert first.revocation == Revocation(
        crl_paths=(tmp_path / "tax.crl", tmp_path / "crls"),
        crl_urls=("http://ca.example/tax.crl",),
        ocsp="aia",
        required=True,
        grace=timedelta(minutes=90),
    )
    assert (second.profile.name, second.members, second.revocation) == (
        "datong-uri",
        (MemberPattern("*"),),
        Revocation(),
    )
    assert trust.pins == {f"{MEMBER}/tax": {"ab" * 32, "cd" * 32}}
    assert trust.terminators.sockets == (tmp_path / "terminator.sock",)
    assert trust.terminators.certificates == {"0f" * 32}
    assert trust.files == (tmp_path / "trust.toml", tmp_path / "root.pem", tmp_path / "other.pem")
    assert trust.certificates == (ROOT, OTHER_ROOT)
    assert x509.load_pem_x509_certificates(trust.pem()) == [ROOT, OTHER_ROOT]


def test_the_file_moves_together_with_what_it_names(write: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write('[[anchor]]\nname = "a"\ncertificates = "root.pem"\n')
    monkeypatch.chdir(path.parent)
    assert read_trust(Path("trust.toml")).anchors == read_trust(path).anchors


def test_a_bundle_alone_means_our_own_profile_and_no_limits() -> None:
    trust = Trust.from_bundle(ROOT.public_bytes(serialization.Encoding.PEM))
    assert trust.principal([by_uri(f"{MEMBER}/tax", ROOT), ROOT]) == Identity(MEMBER, subsystem_id(f"{MEMBER}/tax"))
    assert trust.principal([by_uri(OTHER_MEMBER, DEEPER), DEEPER, SUB, ROOT]) == Identity(OTHER_MEMBER)
    assert trust.anchors[0].revocation == Revocation()


@pytest.mark.parametrize("pem", [b"", by_uri(MEMBER, ROOT).public_bytes(serialization.Encoding.PEM)])
def test_a_bundle_without_cas_is_refused(pem: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the library words one of the two
        Trust.from_bundle(pem)


# How it is refused.

ANCHOR = '[[anchor]]\nname = "a"\ncertificates = "root.pem"\n'
NAMING = ANCHOR + 'profile = "gmt-0015"\ninstance = "CN"\nclass = "GOV"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "trust.toml: anchor: the key is missing."),
        ("anchor = []\n", "trust.toml, line 1: anchor: "),
        ("[[anchor]\n", "trust.toml: Expected"),
        (ANCHOR + "colour = 1\n", "trust.toml, line 4: anchor[0].colour: there is no such key."),
        (ANCHOR + '\n[[anchor]]\nname = "b"\ncertificate = "other.pem"\n', "anchor[1].certificates: the key is missing"),
        (ANCHOR + '\n[[anchor]]\nname = "b"\ncertificates = "other.pem"\nx = 1\n', "line 8: anchor[1].x: there is no"),
        (ANCHOR + "[anchor.revocation]\nrequired = true\nocps = 1\n", "line 6: anchor[0].revocation.ocps: there is no"),
        (ANCHOR + '[[anchor.sub_ca]]\nmembers = ["*"]\n', "line 4: anchor[0].sub_ca[0]: give either sha256 or key_id"),
        (ANCHOR + f'[[anchor.sub_ca]]\nsha256 = "{"0" * 63}"\nmembers = ["*"]', "line 5: anchor[0].sub_ca[0].sha256: not"),
        (ANCHOR + 'max_depth = "2"\n', "line 4: anchor[0].max_depth: "),
        (ANCHOR + 'profile = "common-name"\n', "line 4: anchor[0].profile: there is no such profile; there are datong-uri"),
        (ANCHOR + "members = []\n", "line 4: anchor[0].members: "),
        (ANCHOR + 'members = ["CN/GOV*"]\n', "line 4: anchor[0].members[0]: "),
        (ANCHOR + 'members = ["CN*"]\n', "line 4: anchor[0].members[0]: "),
        (ANCHOR + 'members = ["CN/*/A"]\n', "line 4: anchor[0].members[0]: "),
        (ANCHOR + 'members = ["CN/GOV/A/tax"]\n', "line 4: anchor[0].members[0]: "),
        (ANCHOR + 'members = ["税务/*"]\n', "line 4: anchor[0].members[0]: "),
        (ANCHOR + 'class = "GOV"\n', "line 4: anchor[0].class: has no effect with the profile datong-uri"),
        (ANCHOR + '[anchor.persons]\nsubsystem = "desk"\n', "line 4: anchor[0].persons: has no effect"),
        (NAMING + 'serial_number = "uscc"\n', "line 7: anchor[0].serial_number: has no effect with the profile gmt-0015"),
        (NAMING.replace('class = "GOV"\n', ""), "anchor[0]: instance and class belong together"),
        (NAMING.replace('instance = "CN"\nclass = "GOV"\n', ""), "anchor[0]: instance and class are missing"),
        (NAMING.replace("GOV", "GO/V"), "line 6: anchor[0].class: not a member identifier"),
        (NAMING + '[anchor.persons]\nsubsystem = "a/b"\n', "line 8: anchor[0].persons.subsystem: not a subsystem"),
        (NAMING + '[anchor.extensions]\nuscc = "1.2.x"\n', "line 8: anchor[0].extensions.uscc: not an object identifier"),
        (
            NAMING + '[anchor.extensions]\nuscc = "1.2.3"\norganization_code = "1.2.3"\n',
            "line 7: anchor[0].extensions: one OID stands for two fields",
        ),
        (NAMING + '[anchor.extensions]\nuscc = "1.2.156.10260.4.1.4"\n', "one OID stands for two fields"),
        (ANCHOR.replace("root.pem", "absent.pem"), "line 3: anchor[0].certificates: No such file"),
        (ANCHOR.replace("root.pem", "trust.toml"), "line 3: anchor[0].certificates: "),
        (ANCHOR + ANCHOR, "line 5: anchor[1].name: another anchor has this name"),
        (ANCHOR + ANCHOR.replace('"a"', '"b"'), "line 6: anchor[1].certificates: one of these"),
        (ANCHOR + ANCHOR.replace('"a"', '"b"').replace("root", "both"), "line 6: anchor[1].certificates: one of these"),
        (ANCHOR + "[anchor.revocation]\nrequired = true\n", "line 5: anchor[0].revocation.required: there is neither"),
        (ANCHOR + '[anchor.revocation]\nrequired = false\ncrl = ["ldap://x/"]\n', "revocation.crl: not an http address"),
        (ANCHOR + '[anchor.revocation]\nrequired = false\nocsp = "on"\n', "revocation.ocsp: not an http address"),
        (ANCHOR + "[anchor.revocation]\nocsp = 'aia'\n", "anchor[0].revocation.required: the key is missing"),
        (ANCHOR + "[anchor.revocation]\nrequired = false\ngrace_hours = -1\n", "line 6: anchor[0].revocation.grace_hours"),
        (ANCHOR + f'[[pin]]\nsubsystem = "{MEMBER}"\ncertificates = ["{"0" * 64}"]\n', "line 5: pin[0].subsystem: not a"),
        (ANCHOR + f'[[pin]]\nsubsystem = "{MEMBER}/tax"\ncertificates = []\n', "line 6: pin[0].certificates: "),
        (ANCHOR + 2 * f'[[pin]]\nsubsystem = "{MEMBER}/t"\ncertificates = ["{"0" * 64}"]\n', "line 8: pin[1].subsystem: this"),
        (ANCHOR + "[[terminator]]\n", "line 4: terminator[0]: give either unix or certificate"),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_with_its_line_and_key(write: Writer, text: str, says: str) -> None:
    assert says in str(complaint(write(text)))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert "No such file" in str(complaint(tmp_path / "trust.toml"))
    (tmp_path / "trust.toml").write_bytes(b"\xff")
    assert "not UTF-8" in str(complaint(tmp_path / "trust.toml"))


def test_persons_need_the_key_of_their_hash(write: Writer) -> None:
    path = write(NAMING + '[anchor.persons]\nsubsystem = "desk"\n')
    with pytest.raises(UnprocessableError, match="DATONG_SUBJECT_KEY"):
        read_trust(path)
    assert read_trust(path, person_key=PERSON_KEY).anchors[0].naming.persons is not None


def test_without_a_class_the_registry_finds_the_member(write: Writer) -> None:
    path = write(ANCHOR + 'profile = "organization-identifier"\n')
    trust = read_trust(path, member_of_code={CODE: member_id(f"CN/COM/{CODE}")}.get)
    leaf = certificate(organization_identifier(f"NTRCN-{CODE}"), issuer=ROOT)
    assert trust.principal([leaf, ROOT]).member == f"CN/COM/{CODE}"
    stranger = certificate(organization_identifier(f"NTRCN-{OTHER_CODE}"), issuer=ROOT)
    assert refused(trust, stranger, ROOT).rule == "certificate-member"


# Whom it lets speak for whom.


@pytest.mark.parametrize(
    ("pattern", "member", "covered"),
    [
        ("*", "CN/GOV/A", True),
        ("CN/*", "CN/GOV/A", True),
        ("CN/*", "CNX/GOV/A", False),
        ("CN/GOV/*", "CN/GOV/A", True),
        ("CN/GOV/*", "CN/GOVERNMENT/A", False),
        ("CN/GOV/1199*", "CN/GOV/11990", True),
        ("CN/GOV/1199*", "CN/GOV/1198", False),
        ("CN/GOV/A", "CN/GOV/A", True),
        ("CN/GOV/A", "CN/GOV/AB", False),
        ("CN/GOV/A", "CN/GOV/a", False),
    ],
)
def test_a_limit_is_an_identifier_or_the_beginning_of_one(pattern: str, member: str, covered: bool) -> None:
    assert MemberPattern(pattern).covers(MemberId(member)) == covered


def limited(write: Writer, *sub_cas: tuple[str, str, list[str]], rest: str = "", also: str = "") -> Trust:
    text = ANCHOR + also
    for kind, value, members in sub_cas:
        text += f'[[anchor.sub_ca]]\n{kind} = "{value}"\nmembers = {members}\n'
    return read_trust(write(text + rest))


@pytest.mark.parametrize(("kind", "name"), [("sha256", fingerprint), ("key_id", key_id)])
def test_a_sub_ca_speaks_only_for_its_members(
    write: Writer, kind: str, name: Callable[[x509.Certificate], str]
) -> None:
    trust = limited(write, (kind, name(SUB), [MEMBER]))
    assert trust.principal([by_uri(MEMBER, SUB), SUB, ROOT]).member == MEMBER
    assert trust.principal([by_uri(OTHER_MEMBER, ROOT), ROOT]).member == OTHER_MEMBER
    for path in ((by_uri(OTHER_MEMBER, SUB), SUB, ROOT), (by_uri(OTHER_MEMBER, DEEPER), DEEPER, SUB, ROOT)):
        error = refused(trust, *path)
        assert (error.rule, "its sub-CA may not speak" in str(error)) == ("certificate-member", True)


def test_a_sub_ca_cannot_escape_by_another_spelling_of_its_key(write: Writer) -> None:
    bare = authority("Bare", ROOT, key_id=False)
    stated = certificate(
        ca=True,
        issuer=ROOT,
        key_id=False,
        extensions=[x509.SubjectKeyIdentifier(b"\x01" * 20)],
    )
    trust = limited(write, ("key_id", key_id(bare), [MEMBER]), ("key_id", "01" * 20, [MEMBER]))
    for sub in (bare, stated):
        assert trust.principal([by_uri(MEMBER, sub), sub, ROOT]).member == MEMBER
        assert refused(trust, by_uri(OTHER_MEMBER, sub), sub, ROOT).rule == "certificate-member"


def test_no_ca_widens_what_one_above_it_narrows(write: Writer) -> None:
    trust = limited(write, ("sha256", fingerprint(SUB), [MEMBER]), ("sha256", fingerprint(DEEPER), ["*"]))
    assert refused(trust, by_uri(OTHER_MEMBER, DEEPER), DEEPER, SUB, ROOT).rule == "certificate-member"
    trust = limited(write, ("sha256", fingerprint(SUB), ["*"]), also=f'members = ["{MEMBER}"]\n')
    assert trust.principal([by_uri(f"{MEMBER}/tax", SUB), SUB, ROOT]).subsystem == f"{MEMBER}/tax"
    error = refused(trust, by_uri(f"{OTHER_MEMBER}/tax", SUB), SUB, ROOT)
    assert "the anchor a may not speak" in str(error)


def test_where_sub_cas_are_listed_no_other_counts(write: Writer) -> None:
    trust = limited(write, ("sha256", fingerprint(SUB), ["*"]), also='sub_cas = "listed"\n')
    assert trust.principal([by_uri(MEMBER, SUB), SUB, ROOT]).member == MEMBER
    assert "not listed" in str(refused(trust, by_uri(MEMBER, DEEPER), DEEPER, SUB, ROOT))


def test_more_cas_than_an_anchor_allows_are_refused(write: Writer) -> None:
    trust = limited(write, also="max_depth = 1\n")
    assert trust.principal([by_uri(MEMBER, SUB), SUB, ROOT]).member == MEMBER
    error = refused(trust, by_uri(MEMBER, DEEPER), DEEPER, SUB, ROOT)
    assert (error.rule, "2 CAs between" in str(error)) == ("certificate-chain", True)


def test_a_path_that_ends_elsewhere_or_nowhere_is_refused(write: Writer) -> None:
    trust = limited(write)
    for path in ([by_uri(MEMBER, OTHER_ROOT), OTHER_ROOT], [by_uri(MEMBER, SUB), SUB], [ROOT], []):
        assert refused(trust, *path).rule == "certificate-chain"


def test_each_anchor_is_read_by_its_own_profile(write: Writer) -> None:
    text = ANCHOR + '[[anchor]]\nname = "b"\ncertificates = "other.pem"\nprofile = "organization-identifier"\n'
    trust = read_trust(write(text + 'instance = "CN"\nclass = "COM"\nsubsystem_from = "organizational-unit"\n'))
    names = (organization_identifier(f"NTRCN-{CODE}"), unit("tax"))
    leaf = certificate(*names, issuer=OTHER_ROOT)
    found = trust.principal([leaf, OTHER_ROOT])
    assert found == Identity(
        member_id(f"CN/COM/{CODE}"), subsystem_id(f"CN/COM/{CODE}/tax"), profile="organization-identifier"
    )
    assert refused(trust, certificate(*names, issuer=ROOT), ROOT).rule == "certificate-profile"
    assert refused(trust, by_uri(MEMBER, OTHER_ROOT), OTHER_ROOT).rule == "certificate-profile"


def test_a_person_is_limited_with_the_organisation(write: Writer) -> None:
    text = ANCHOR + 'profile = "organization-identifier"\ninstance = "CN"\nclass = "GOV"\n'
    text += f'members = ["{MEMBER}"]\n[anchor.persons]\nsubsystem = "desk"\n'
    trust = read_trust(write(text), person_key=PERSON_KEY)
    person = serial_number(f"IDCCN-{PERSON}")
    found = trust.principal([certificate(organization_identifier(f"NTRCN-{CODE}"), person, issuer=ROOT), ROOT])
    assert (found.kind, found.subsystem) == ("person", f"{MEMBER}/desk")
    stranger = certificate(organization_identifier(f"NTRCN-{OTHER_CODE}"), person, issuer=ROOT)
    error = refused(trust, stranger, ROOT)
    assert (error.rule, PERSON in str(error)) == ("certificate-member", False)


def test_a_pinned_subsystem_has_no_other_certificates(write: Writer) -> None:
    subsystem = subsystem_id(f"{MEMBER}/tax")
    pinned, other, whole = by_uri(subsystem, ROOT), by_uri(subsystem, ROOT), by_uri(MEMBER, ROOT)
    trust = read_trust(
        write(ANCHOR + f'[[pin]]\nsubsystem = "{subsystem}"\ncertificates = ["{fingerprint(pinned)}"]\n')
    )
    assert trust.principal([pinned, ROOT]).subsystem == subsystem
    error = refused(trust, other, ROOT)
    assert (error.rule, str(subsystem) in str(error)) == ("certificate-pinned", True)
    assert trust.principal([by_uri(f"{MEMBER}/vat", ROOT), ROOT]).subsystem == f"{MEMBER}/vat"
    # A certificate of the whole member is somebody, and still not this subsystem.
    assert trust.principal([whole, ROOT]).member == MEMBER
    trust.check_pin(subsystem, fingerprint(pinned))
    trust.check_pin(subsystem_id(f"{MEMBER}/vat"), fingerprint(whole))
    with pytest.raises(UnauthenticatedError, match="pinned"):
        trust.check_pin(subsystem, fingerprint(whole))


def test_what_was_read_cannot_be_changed(write: Writer) -> None:
    trust = read_trust(write(WHOLE), person_key=PERSON_KEY)
    assert trust.certificates is trust.certificates
    with pytest.raises(AttributeError):
        trust.anchors = ()  # type: ignore[misc]
    with pytest.raises(TypeError):
        trust.pins[subsystem_id(f"{MEMBER}/x")] = frozenset()  # type: ignore[index]
    assert isinstance(trust.anchors[0], Anchor)


# What the documents show.


def examples() -> list[tuple[str, str]]:
    found = []
    for document in sorted(DOCUMENTS.glob("*.md")):
        blocks = re.findall(r"^```toml\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        found += [(document.name, block) for block in blocks]
    return found


@pytest.mark.parametrize(("name", "text"), examples())
def test_every_example_in_the_documents_is_read(write: Writer, name: str, text: str) -> None:
    """The roots they name stand in for themselves, a different one for each."""
    path = write(text)
    for file in set(re.findall(r'^certificates = "(.*\.pem)"', text, re.MULTILINE)):
        (path.parent / file).write_bytes(authority(file).public_bytes(serialization.Encoding.PEM))
    assert read_trust(path, person_key=PERSON_KEY).anchors


def test_the_documents_name_every_key_and_profile() -> None:
    text = (DOCUMENTS / "trust-file.md").read_text(encoding="utf-8")
    tables = [each for each in vars(trust_format).values() if isinstance(each, type) and hasattr(each, "model_fields")]
    keys = {field.alias or name for table in tables for name, field in table.model_fields.items()}
    assert {key for key in keys if re.search(rf"[`\[.]{key}[`\]]", text) is None} == set()
    assert all((DOCUMENTS / f"{name}.md").exists() for name in PROFILES)

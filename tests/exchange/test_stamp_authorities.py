"""The file of time-stamping authorities: what it may say, and how its faults are named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from exchange.errors import UnprocessableError
from exchange.timestamps.authorities import read_timestamps
from tests.exchange.tsa_kit import Issuer

ROOT = Issuer.root()
WHOLE = """\
interval = 30
required = true
patience = 7200.5

[[authority]]
name = "national-time"
url = "http://tsa.example/rfc3161"
anchors = "anchors/national.pem"
policy = "1.2.156.1"
digest = "sha384"
timeout = 5
tls_anchors = "anchors/national.pem"

[[authority]]
name = "b.2_c"
url = "https://user:password@tsa.example:8443/"
anchors = "anchors/national.pem"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "anchors").mkdir()
    pem = ROOT.certificate.public_bytes(Encoding.PEM)
    (tmp_path / "anchors/national.pem").write_bytes(pem + Issuer.root("另一").certificate.public_bytes(Encoding.PEM))
    (tmp_path / "anchors/empty.pem").write_bytes(b"")
    file = tmp_path / "timestamps.toml"
    file.write_text(WHOLE)
    return file


def test_a_file_says_who_stamps_and_how_often(file: Path) -> None:
    config = read_timestamps(file)
    assert (config.interval, config.required, config.patience) == (30, True, 7200.5)
    first, second = config.authorities
    assert (first.name, first.url, first.policy) == ("national-time", "http://tsa.example/rfc3161", "1.2.156.1")
    assert (first.digest, first.timeout, first.tls_anchors) == ("sha384", 5, file.parent / "anchors/national.pem")
    assert len(first.anchors) == 2
    assert first.anchors[0] == ROOT.certificate
    assert (second.name, second.policy, second.digest, second.timeout) == ("b.2_c", "", "sha256", 10)
    assert second.tls_anchors is None


def test_what_is_left_out_has_its_default(file: Path) -> None:
    file.write_text('[[authority]]\nname = "a"\nurl = "http://a/"\nanchors = "anchors/national.pem"\n')
    config = read_timestamps(file)
    assert (config.interval, config.required, config.patience) == (60, False, 14400)


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ('name = "b.2_c"', 'name = "national-time"', 15, "stands there twice"),
        ('name = "b.2_c"', 'name = "国家"', 15, "String should match pattern"),
        ('name = "b.2_c"', "", 14, "Field required"),
        ("interval = 30", "interval = 0", 1, "greater than 0"),
        ("interval = 30", 'interval = "30"', 1, "valid number"),
        ("interval = 30", "interval = nan", 1, "less than or equal"),
        ("interval = 30", "intervall = 30", 1, "Extra inputs"),
        ("required = true", "required = 1", 2, "valid boolean"),
        ("patience = 7200.5", "patience = 29", 3, "shorter than the interval"),
        ("http://tsa.example/rfc3161", "ftp://tsa.example/", 7, "write http"),
        ("http://tsa.example/rfc3161", "http:///x", 7, "write http"),
        ("http://tsa.example/rfc3161", "http://a b/", 7, "write http"),
        ("http://tsa.example/rfc3161", "http://a:99999/", 7, "write http"),
        ("http://tsa.example/rfc3161", "http://[a/", 7, "write http"),
        ("1.2.156.1", "1.2.x", 9, "object identifier"),
        ('digest = "sha384"', 'digest = "sha1"', 10, "sha256"),
        ("timeout = 5", "timeout = 301", 11, "less than or equal to 300"),
        ('anchors = "anchors/national.pem"\npolicy', 'anchors = "none.pem"\npolicy', 8, "cannot be read: No such file"),
        ('anchors = "anchors/national.pem"\npolicy', 'anchors = "anchors/empty.pem"\npolicy', 8, "no PEM certificate"),
        ('tls_anchors = "anchors/national.pem"', 'tls_anchors = "anchors"', 12, "Is a directory"),
        ("[[authority]]", "[[authorities]]", 0, "authorit"),
        ("interval = 30", "interval = ", 0, "TOML"),
    ],
)
def test_a_fault_is_named_with_its_line(file: Path, old: str, new: str, line: int, said: str) -> None:
    assert old in WHOLE
    file.write_text(WHOLE.replace(old, new))
    with pytest.raises(UnprocessableError) as refused:
        read_timestamps(file)
    assert refused.value.rule == "timestamps"
    told = refused.value.detail_in("en") + refused.value.detail_in("zh")
    assert said in told
    assert f"timestamps.toml{f', line {line}:' if line else ''}" in told
    assert "password" not in told


def test_a_file_without_authorities_or_without_itself_is_refused(file: Path) -> None:
    for text in ("interval = 30\n", "authority = []\n"):
        file.write_text(text)
        with pytest.raises(UnprocessableError, match="authority"):
            read_timestamps(file)
    file.unlink()
    with pytest.raises(UnprocessableError, match="cannot be read"):
        read_timestamps(file)


def test_the_file_in_the_documents_is_one(file: Path) -> None:
    document = (Path(__file__).parents[2] / "docs/timestamps.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", document, re.DOTALL)
    for name in ("national-time", "bureau", "web"):
        (file.parent / f"anchors/{name}.pem").write_bytes((file.parent / "anchors/national.pem").read_bytes())
    file.write_text(example)
    config = read_timestamps(file)
    assert [each.name for each in config.authorities] == ["national-time", "bureau"]
    assert (config.interval, config.required, config.patience) == (60, False, 14400)

"""The examples of docs/signed-requests.md run, and what they send verifies."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from exchange import needs_covering
from exchange.signatures.recorded_signatures import bound_by
from tests.ca_auth.signed_requests import Recorder, Request, caller, request_recorder
from tests.ci import missing

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/signed-requests.md").read_text(encoding="utf-8")


def example(language: str, number: int = 0) -> str:
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)
    return found[number]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds what the examples name: certificate, key, CA, question."""
    by = caller()
    pem = by.certificate.public_bytes(Encoding.PEM)
    for name in ("housing.crt", "ca.pem"):
        (tmp_path / name).write_bytes(pem)
    (tmp_path / "housing.key").write_bytes(by.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "question.json").write_text('{"uscc": "91990000000000000X"}')
    return tmp_path


def sent(recorder: Recorder) -> Request:
    (request,) = recorder.requests
    return request


def assert_proven(request: Request) -> None:
    bound = bound_by(request.verified(now=time.time()).base)
    assert bound.client == "CN/GOV/11990000000000001X/housing"
    assert bound.purpose == "public-rental-housing"
    assert bound.path == "/r1/CN/GOV/11990000000000000X/tax/enterprises/search"
    assert bound.query == "year=2026"
    assert json.loads(request.body) == {"uscc": "91990000000000000X"}
    assert {name for name, _ in request.headers if needs_covering(name)} <= {name.encode() for name in bound.fields}


def test_the_example_with_curl_sends_a_request_that_verifies(folder: Path) -> None:
    bash = shutil.which("bash")
    if bash is None or not shutil.which("curl") or not shutil.which("openssl"):
        missing("bash, curl or openssl")
    for _ in range(4):  # r and s are shorter now and then
        with request_recorder() as recorder:
            script = example("bash") + example("bash", 1)
            script = script.replace("gateway.example:8443", recorder.url.removeprefix("http://"))
            script = script.replace("https://", "http://")  # the TLS of the edge has tests of its own
            done = subprocess.run([bash, "-c", script], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert_proven(sent(recorder))


def test_the_example_with_python_sends_a_request_that_verifies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with request_recorder() as recorder:
        program = example("python").replace("https://gateway.example:8443", recorder.url)
        exec(compile(program, "example", "exec"), {})
    assert_proven(sent(recorder))


def test_every_rule_of_the_table_is_raised_and_every_rule_raised_is_in_the_table() -> None:
    modules = (
        ROOT / name
        for name in (
            "ca_auth/request_signing/signature_refusals.py",
            "ca_auth/request_signing/nonces.py",
            "exchange/messages/digest_fields.py",
        )
    )
    sources = "".join(module.read_text(encoding="utf-8") for module in modules)
    raised = set(re.findall(r'(?<!b)"(signature-[a-z]+|nonce-store|content-digest)"', sources))
    assert set(re.findall(r"^\| \d+ \| `([a-z-]+)` \|", DOCUMENT, re.MULTILINE)) == raised

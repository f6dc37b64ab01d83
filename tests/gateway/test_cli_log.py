"""`datong log witness` as an audit office runs it, and the commands beside it."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from exchange.transparency.checkpoint import NoteSigner
from exchange.transparency.cosignature import check_cosignatures
from exchange.transparency.trust_policy import TrustPolicy
from exchange.witness.folder import WitnessFolder
from exchange.witness.protocol import MOST_BYTES, origin_hash, request_body
from gateway.cli.log import app
from tests.exchange.witness_kit import MemoryLog
from tests.running_mesh import SOURCE, source_environment
from tests.waiting import wait_until

LOG, OTHER_TREE, SECOND = MemoryLog(), MemoryLog(salt="x"), MemoryLog(NoteSigner.generate("second.example/log"))
OTHER_TREE.signer = LOG.signer


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments], env={"LC_ALL": "C.UTF-8", "COLUMNS": "200"})


@contextmanager
def witness(folder: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A running witness: its address and its process."""
    ready = folder.parent / "ready"
    ready.unlink(missing_ok=True)
    with (folder.parent / "events").open("ab") as events:
        process = subprocess.Popen(
            [*SOURCE, "log", "witness", "--data", str(folder), "--port", "0", "--ready-file", str(ready), *options],
            env=source_environment() | {"LC_ALL": "C.UTF-8"},
            stdout=subprocess.PIPE,
            stderr=events,
        )
    try:
        wait_until(lambda: process.poll() is not None or (ready.exists() and ready.read_text()))
        assert process.poll() is None, (folder.parent / "events").read_text()
        yield ready.read_text(), process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A witness that knows one log by its vkey and was given a key list, too."""
    folder = tmp_path_factory.mktemp("office")
    keys = {"format": "datong-keys/1", "logs": [SECOND.signer.verifier.vkey], "trust_anchors": []}
    (folder / "keys.json").write_text(json.dumps(keys))
    options = ["--name", "audit.example/w", "--log", LOG.signer.verifier.vkey, "--keys", str(folder / "keys.json")]
    with witness(folder / "witness", *options) as (url, _):
        yield folder / "witness", url


def test_it_cosigns_over_http_as_the_specification_says(running: tuple[Path, str]) -> None:
    folder, url = running
    verifier = WitnessFolder(folder).cosigner().verifier
    with httpx.Client(base_url=url) as http:
        monitored = f"/{origin_hash('second.example/log')}/checkpoint"
        assert http.get(monitored).status_code == 404
        answer = http.post("/add-checkpoint", content=SECOND.request(0, 5))
        assert answer.status_code == 200
        cosigned = SECOND.note(5) + answer.text
        assert check_cosignatures(cosigned, [verifier]).keys() == {"audit.example/w"}
        shown = http.get(monitored)
        assert (shown.text, shown.headers["cache-control"]) == (cosigned, "no-store")
        assert http.head(monitored).text == ""
        conflict = http.post("/add-checkpoint", content=SECOND.request(0, 7))
        assert (conflict.status_code, conflict.text) == (409, "5\n")
        assert conflict.headers["content-type"] == "text/x.tlog.size"
        assert http.post("/add-checkpoint", content=SECOND.request(5, 7)).status_code == 200
        about = http.get("/").text.splitlines()[1]
        assert TrustPolicy.from_text(f"{about}\nquorum audit.example/w\n").witnesses[0].url == url


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/add-checkpoint", 405),
        ("PUT", "/add-checkpoint", 405),
        ("POST", "/", 405),
        ("POST", f"/{'0' * 64}/checkpoint", 405),
        ("GET", f"/{'0' * 64}/checkpoint", 404),
        ("GET", f"/{'A' * 64}/checkpoint", 404),
        ("GET", "/checkpoint", 404),
        ("POST", "/add-checkpoint/", 404),
        ("POST", "/sign-subtree", 404),
    ],
)
def test_other_addresses_and_methods(running: tuple[Path, str], method: str, path: str, status: int) -> None:
    answer = httpx.request(method, running[1] + path, content=LOG.request(0, 5) if method == "PUT" else None)
    assert answer.status_code == status
    assert ("allow" in answer.headers) == (status == 405)


def test_it_survives_what_is_no_request(running: tuple[Path, str]) -> None:
    _, url = running
    port = int(url.rpartition(":")[2])
    post = b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\n"
    hostile = [
        b"\x16\x03\x01\x00\xff",
        b"GET / HTTP/9.9\r\n\r\n",
        post + b"Content-Length: 99999999999999999999\r\n\r\n",
        post + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        post + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        post + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
        post + b"Content-Length: 400000\r\n\r\n" + b"x" * (MOST_BYTES + 1),
        post + b"Content-Length: 9\r\n\r\nold",
    ]
    for sent in hostile:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            try:
                received = connection.recv(4096)
            except ConnectionResetError:
                continue
            assert not received or received.split()[1] in (b"400", b"413", b"431"), received
    with httpx.Client(base_url=url) as http:
        for body in (b"", b"\xff" * 1000, b"old 0\n\n", b"old 0\n" + b"A\n" * 60_000, LOG.request(0, 5)[:-40]):
            assert http.post("/add-checkpoint", content=body).status_code == 400
        assert http.get("/").status_code == 200


def test_after_a_kill_it_knows_what_it_gave_out_and_shows_evidence(tmp_path: Path) -> None:
    folder = tmp_path / "witness"
    with witness(folder, "--name", "w.example", "--log", LOG.signer.verifier.vkey) as (url, process):
        assert httpx.post(f"{url}/add-checkpoint", content=LOG.request(0, 5)).status_code == 200
        assert run("evidence", "--data", folder).stdout == "nothing\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    with witness(folder) as (url, process):
        assert httpx.post(f"{url}/add-checkpoint", content=OTHER_TREE.request(5, 5)).status_code == 422
        # Told while it runs, of a log that it learns of while it runs.
        found = run("evidence", "--data", folder, "--json")
        with WitnessFolder(folder).logs.open("a") as file:
            file.write(SECOND.signer.verifier.vkey + "\n")
        assert httpx.post(f"{url}/add-checkpoint", content=SECOND.request(0, 5)).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == -signal.SIGTERM
    assert found.exit_code == 1
    (fork,) = json.loads(found.stdout)["evidence"]
    assert (fork["misconduct"], fork["origin"], fork["size"]) == ("fork", "log.example/datong", 5)
    assert fork["request"].encode() == OTHER_TREE.request(5, 5)
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    (told,) = [event for event in events if event["event"] == "witness.misconduct"]
    assert (told["kind"], told["level"], told["origin"]) == ("fork", "critical", "log.example/datong")
    said = run("evidence", "--data", folder, "--lang", "zh")
    assert "fork log.example/datong 5" in said.stdout
    assert "此前已联署" in said.stdout


def test_a_key_and_a_policy_are_made_from_the_command_line(tmp_path: Path) -> None:
    lines = []
    for name in ("audit.example/w", "civil.example/w"):
        made = run("witness-key", "--name", name, "--data", tmp_path / name, "--url", f"https://{name}/")
        assert made.exit_code == 0, made.output
        assert (
            run("witness-key", "--name", name, "--data", tmp_path / name, "--url", f"https://{name}/").stdout
            == made.stdout
        )
        lines.append(made.stdout.strip())
    written = run(
        "policy", "--log", LOG.signer.verifier.vkey, "--witness", lines[0], "--witness", lines[1], "--quorum", "1"
    )
    assert written.exit_code == 0, written.output
    policy = TrustPolicy.from_text(written.stdout)
    assert [one.name for one in policy.witnesses] == ["audit.example/w", "civil.example/w"]
    assert policy.satisfied_by(["civil.example/w"])
    assert not policy.satisfied_by([])
    (tmp_path / "policy.txt").write_text(written.stdout)
    explained = run("policy", tmp_path / "policy.txt")
    assert "witnesses: 1 of 2: audit.example/w, civil.example/w" in explained.stdout
    assert json.loads(run("policy", tmp_path / "policy.txt", "--json").stdout)["quorum"] == "witnesses"
    assert run("policy").stdout == "quorum none\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["witness-key", "--data", "{tmp}/none"], "no name was given"),
        (["witness-key", "--name", "a b", "--data", "{tmp}/none"], "no spaces"),
        (["witness", "--data", "{tmp}/none"], "no name was given"),
        (["witness", "--name", "w", "--log", "nonsense", "--data", "{tmp}/w"], "name+id+key"),
        (["witness", "--name", "w", "--keys", "{tmp}/bad", "--data", "{tmp}/w"], "not a key list"),
        (["witness", "--name", "w", "--host", "192.0.2.1", "--data", "{tmp}/w"], "cannot be listened on"),
        (["witness", "--name", "w", "--tls-cert", "{tmp}/bad", "--tls-key", "{tmp}/bad", "--data", "{tmp}/w"], "SSL"),
        (["witness", "--name", "w", "--tls-cert", "{tmp}/bad"], "belong together"),
        (["evidence", "--data", "{tmp}/none"], "is not there"),
        (["policy", "{tmp}/bad"], "line 1"),
        (["policy", "--witness", "a nonsense"], "line 1"),
        (["policy", "--witness", ""], "line 1"),
        (["policy", "--log", LOG.signer.verifier.vkey, "--log", LOG.signer.verifier.vkey], "line 2"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(tmp_path: Path, arguments: list[str], says: str) -> None:
    (tmp_path / "bad").write_text("nonsense\n")
    result = run(*[each.format(tmp=tmp_path) for each in arguments])
    assert result.exit_code in (1, 2)
    assert says in result.stderr
    assert "Traceback" not in result.output


def test_a_witness_at_an_https_address(tmp_path: Path) -> None:
    certificate, key = tmp_path / "w.crt", tmp_path / "w.key"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    options = ["--name", "w.example", "--tls-cert", str(certificate), "--tls-key", str(key)]
    with witness(tmp_path / "witness", "--log", LOG.signer.verifier.vkey, *options) as (url, process):
        assert url.startswith("https://localhost:")
        trusted = ssl.create_default_context(cafile=certificate)
        body = request_body(0, [], LOG.note(5))
        with httpx.Client(verify=trusted) as http:
            assert http.post(f"{url}/add-checkpoint", content=body).status_code == 200
            assert http.post(f"{url}/add-checkpoint", content=LOG.request(0, 7)).text == "5\n"
        process.send_signal(signal.SIGTERM)
        process.wait(20)

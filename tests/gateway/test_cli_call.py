"""`datong call` against a real mesh: what it sends, what it shows, and how it ends."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from cryptography.hazmat.primitives import serialization
from typer.testing import CliRunner, Result

from ca_auth import CertificateRequest
from deploy.trial_mesh import CALLER, ECHO
from exchange import verify_receipt
from gateway.cli.call import call
from tests.gateway.conftest import SIBLING
from tests.gateway.echo_backend import Received, answer
from tests.gateway.exchange_mesh import Mesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]
BINARY = bytes(range(256)) * 20


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs the command in the data folder's neighbourhood, and knows what it left on the record."""

    mesh: Mesh

    async def __call__(
        self, *arguments: str, code: int = 0, asked: bool = True, stdin: bytes | None = None, mine: bool = True
    ) -> Result:
        """The result, its exit code checked.

        Args:
            asked: Whether an exchange is made, and so recorded.
            mine: Whether the mesh is named.
        """
        app = typer.Typer()
        app.command("call")(call)
        named = ("--data", str(self.mesh.trial.folder), "--gateway", self.mesh.url) if mine else ()
        environment = {"DATONG_GATEWAY": "", "LC_ALL": "C.UTF-8"}
        result = await asyncio.to_thread(CliRunner().invoke, app, [*named, *arguments], input=stdin, env=environment)
        assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
        self.mesh.recorded += asked
        return result

    async def record(self) -> dict[str, Any]:
        """The newest."""
        entries = [entry async for entry in self.mesh.log.iter_entries(kind="exchange")]
        record: dict[str, Any] = json.loads(entries[-1].leaf)
        return record


@pytest.fixture
def shell(mesh: Mesh) -> Shell:
    return Shell(mesh)


def parsed(result: Result) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(result.stdout)
    return shown


def received(mesh: Mesh, target: str) -> Received:
    """The one request for a target that came to the department."""
    (found,) = [request for request in mesh.backend.received if request.target == target]
    return found


def line(result: Result) -> str:
    """What it said went wrong: one line."""
    assert "Traceback" not in result.stderr
    (said,) = result.stderr.splitlines()
    assert said.startswith("datong call: ")
    return said


# What is sent


async def test_a_department_is_named_and_everything_else_is_found(shell: Shell, mesh: Mesh) -> None:
    with mesh.answering("/a/b?x=1&y=2", answer(200, body=b"found")):
        result = await shell("--as", "caller", f"{ECHO}/a/b?x=1&y=2")
    assert received(mesh, "/a/b?x=1&y=2").method == "GET"
    assert result.stdout_bytes == b"found"
    query = (await shell.record())["query"]
    assert (query["client"], query["purpose"]) == (CALLER, "trial")


async def test_every_option_arrives_where_it_belongs(shell: Shell, mesh: Mesh) -> None:
    """Chinese ones too: names, case numbers and purposes are."""
    await shell(
        *("--as", "caller", "--purpose", "trial", "--case", "公租房〔2026〕7号", "--user", "张三"),
        *("--subject", "440102198001011234", "-H", "Datong-Channel: hall", "-H", "X-Note:  two  words "),
        *("-X", "patch", "--body", '{"名":"值"}', f"{ECHO}/options"),
    )
    came = received(mesh, "/options")
    assert (came.method, came.body) == ("PATCH", '{"名":"值"}'.encode())
    assert (came.values("content-type"), came.values("x-note")) == ([b"application/json"], [b"two  words"])
    query = (await shell.record())["query"]
    assert (query["case"], query["user"], query["channel"]) == ("公租房〔2026〕7号", "张三", "hall")
    assert len(query["subject"]) == 64
    assert "440102198001011234" not in json.dumps(await shell.record())


async def test_a_header_given_replaces_the_one_we_would_send(shell: Shell, mesh: Mesh) -> None:
    await shell("--as", "caller", "-d", "<a/>", "-H", "content-type: application/xml", f"{ECHO}/xml")
    assert received(mesh, "/xml").values("content-type") == [b"application/xml"]
    await shell("--as", "caller", "-d", "a", "--content-type", "text/plain", f"{ECHO}/plain")
    assert received(mesh, "/plain").values("content-type") == [b"text/plain"]


async def test_a_body_makes_it_a_post_unless_a_method_is_given(shell: Shell, mesh: Mesh) -> None:
    await shell("--as", "caller", "--body", "x", f"{ECHO}/posted")
    await shell("--as", "caller", "--body", "x", "-X", "PUT", f"{ECHO}/put")
    assert [received(mesh, path).method for path in ("/posted", "/put")] == ["POST", "PUT"]


async def test_a_body_comes_from_a_file_or_from_standard_input_byte_by_byte(
    shell: Shell, mesh: Mesh, tmp_path: Path
) -> None:
    file = tmp_path / "请求.bin"
    file.write_bytes(BINARY)
    await shell("--as", "caller", "-d", f"@{file}", f"{ECHO}/file")
    await shell("--as", "caller", "-d", "@-", f"{ECHO}/stdin", stdin=BINARY)
    assert [received(mesh, path).body for path in ("/file", "/stdin")] == [BINARY, BINARY]


async def test_chinese_in_a_path_is_encoded_and_what_is_encoded_stays(shell: Shell, mesh: Mesh) -> None:
    await shell("--as", "caller", f"/{ECHO}/区划/%E5%B9%BF?名=%20值")
    assert mesh.backend.times_seen("/%E5%8C%BA%E5%88%92/%E5%B9%BF?%E5%90%8D=%20%E5%80%BC") == 1


async def test_the_path_may_begin_as_in_a_url(shell: Shell, mesh: Mesh) -> None:
    await shell("--as", "caller", f"/r1/{ECHO}/as-pasted")
    assert mesh.backend.times_seen("/as-pasted") == 1


async def test_a_members_certificate_needs_to_be_told_for_whom(shell: Shell, mesh: Mesh) -> None:
    member = mesh.certificates["member"]
    files = ("--cert", str(member.certificate), "--key", str(member.key), "--cacert", str(mesh.trial.trust_anchors))
    told = await shell(*files, f"{ECHO}/x", code=2, asked=False)
    assert "speaks for a whole member" in line(told)
    await shell(*files, "--client", CALLER, f"{ECHO}/for-member")
    assert (await shell.record())["query"]["client"] == CALLER
    refused = await shell(*files, "--client", SIBLING, f"{ECHO}/x", code=1)
    assert "(grant)" in line(refused)


async def test_the_gateway_is_found_in_the_data_folder_or_the_environment(
    shell: Shell, mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ("--data", str(mesh.trial.folder), "--as", "caller")
    url = mesh.trial.folder / "run" / "gateway.url"
    assert not url.exists()
    url.write_text(f"{mesh.url}/\n")
    try:
        await shell(*data, f"{ECHO}/found", mine=False)
    finally:
        url.unlink()
    await shell(*data, "--gateway", f"{mesh.url}/", f"{ECHO}/slash", mine=False)
    assert mesh.backend.times_seen("/found") == mesh.backend.times_seen("/slash") == 1


# What is shown


async def test_a_binary_answer_is_passed_on_untouched(shell: Shell, mesh: Mesh) -> None:
    raw = answer(200, (b"Content-Type", b"application/octet-stream"), body=BINARY)
    with mesh.answering("/binary", raw):
        result = await shell("--as", "caller", f"{ECHO}/binary")
    assert result.stdout_bytes == BINARY
    assert result.stderr == ""
    with mesh.answering("/binary", raw):
        shown = parsed(await shell("--as", "caller", "--json", f"{ECHO}/binary"))
    assert base64.b64decode(shown["body_base64"]) == BINARY
    assert "body" not in shown


async def test_a_packed_answer_is_not_unpacked(shell: Shell, mesh: Mesh) -> None:
    """The record's digest is over the bytes that came."""
    packed = gzip.compress(b"data")
    with mesh.answering("/packed", answer(200, (b"Content-Encoding", b"gzip"), body=packed)):
        result = await shell("--as", "caller", f"{ECHO}/packed")
    assert result.stdout_bytes == packed


async def test_status_and_headers_are_shown_on_request(shell: Shell) -> None:
    result = await shell("--as", "caller", "-i", "-d", "hello", f"{ECHO}/x")
    head, _, body = result.stdout_bytes.partition(b"\n\n")
    lines = head.decode().splitlines()
    assert lines[0] == "HTTP/1.1 200 OK"
    assert f"x-road-client: {CALLER}" in lines
    assert body == b"hello"


async def test_as_json_it_is_one_object(shell: Shell) -> None:
    shown = parsed(await shell("--as", "caller", "--json", "-d", "大同", f"{ECHO}/x"))
    assert shown.keys() == {"status", "headers", "body"}
    assert shown["status"] == 200
    assert shown["headers"]["x-road-service"] == ECHO
    refused = parsed(await shell("--as", "stranger", "--json", f"{ECHO}/x", code=1))
    assert (refused["status"], json.loads(refused["body"])["rule"]) == (403, "grant")


async def test_head_shows_nothing_and_succeeds(shell: Shell) -> None:
    assert (await shell("--as", "caller", "-X", "HEAD", f"{ECHO}/x")).stdout_bytes == b""


async def test_a_refusal_is_the_body_and_one_line_that_says_what_to_do(shell: Shell) -> None:
    result = await shell("--as", "stranger", f"{ECHO}/x", code=1)
    problem = parsed(result)
    assert line(result) == (
        f"datong call: 403 {problem['title']}: {problem['detail']} {problem['next']} ({problem['rule']})"
    )


async def test_a_refusal_is_told_in_chinese(shell: Shell) -> None:
    result = await shell("--as", "stranger", "--lang", "zh", f"{ECHO}/x", code=1)
    assert line(result).startswith("datong call: 403 没有授权覆盖此请求: ")


async def test_an_error_of_the_department_is_told_apart_from_one_of_the_mesh(shell: Shell, mesh: Mesh) -> None:
    with mesh.answering("/odd", answer(404, body=b"none")):
        result = await shell("--as", "caller", f"{ECHO}/odd", code=1)
    assert result.stdout == "none"
    assert line(result) == "datong call: 404, from the department itself"


async def test_a_redirection_is_an_answer_and_not_followed(shell: Shell, mesh: Mesh) -> None:
    with mesh.answering("/moved", answer(302, (b"Location", b"https://evil.example/"))):
        result = await shell("--as", "caller", "-i", f"{ECHO}/moved")
    assert "location: https://evil.example/" in result.stdout


# Receipts


async def test_the_receipt_is_fetched_and_verifies(shell: Shell, mesh: Mesh, tmp_path: Path) -> None:
    target = tmp_path / "receipt.json"
    shown = parsed(await shell("--as", "caller", "--json", "--receipt", str(target), f"{ECHO}/x"))
    keys = (await mesh.client(None).get("/v1/keys")).content
    assert all(check.ok for check in verify_receipt(target.read_bytes(), keys))
    assert json.loads(json.loads(target.read_bytes())["record"])["id"] == shown["headers"]["x-road-request-id"]
    assert [path.name for path in tmp_path.iterdir()] == ["receipt.json"]


async def test_a_refusal_has_a_receipt(shell: Shell, mesh: Mesh, tmp_path: Path) -> None:
    target = tmp_path / "receipt.json"
    await shell("--as", "stranger", "--receipt", str(target), f"{ECHO}/x", code=1)
    assert json.loads(json.loads(target.read_bytes())["record"])["outcome"] == "refused"


async def test_without_a_receipt_nothing_is_written_and_it_is_said(shell: Shell, mesh: Mesh, tmp_path: Path) -> None:
    """A client that is not registered makes an attempt, and may not fetch anything."""
    target = tmp_path / "receipt.json"
    target.write_text("an older one")
    ghost = mesh.certificates["ghost"]
    files = ("--cert", str(ghost.certificate), "--key", str(ghost.key), "--cacert", str(mesh.trial.trust_anchors))
    result = await shell(*files, "--receipt", str(target), f"{ECHO}/x", code=1)
    assert "no receipt was written" in result.stderr.splitlines()[-1]
    assert "not a registered subsystem" in result.stderr.splitlines()[-1]
    assert target.read_text() == "an older one"


async def test_a_receipt_that_cannot_be_written_is_said_and_the_answer_is_shown(shell: Shell, tmp_path: Path) -> None:
    target = tmp_path / "no such folder" / "receipt.json"
    result = await shell("--as", "caller", "--receipt", str(target), "-d", "hello", f"{ECHO}/x", code=1)
    assert result.stdout == "hello"
    assert "no receipt was written" in line(result)
    assert "No such file or directory" in line(result)


# What cannot be asked


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((ECHO,), "say who calls"),
        (("--as", "nowhere", ECHO), "has no certificate of 'nowhere'; there are: auditor, caller"),
        (("--as", "caller", "tax/enterprises"), "is not instance/class/member/subsystem/service"),
        (("--as", "caller", f"{ECHO}%2Fx"), "is not instance/class/member/subsystem/service"),
        (("--as", "caller", f"{ECHO}/a/../b"), "no segments"),
        (("--as", "caller", "--client", "housing", ECHO), "--client housing is not"),
        (("--as", "caller", "-H", "nonsense", ECHO), "write -H 'Name: value', not 'nonsense'"),
        (("--as", "caller", "-H", "Bad Name: x", ECHO), "cannot be sent"),
        (("--as", "caller", "-H", "X-A: a\nX-B: b", ECHO), "cannot be sent"),
        (("--as", "caller", "-X", "GE T", ECHO), "cannot be sent"),
        (("--as", "caller", "-d", "@/no/such/file", ECHO), "/no/such/file: No such file or directory"),
        (("--as", "caller", "--cert", "/no/cert", ECHO), "/no/cert"),
        (("--as", "caller", "--key", "/no/key", ECHO), "/no/key: No such file or directory"),
        (("--as", "caller", "--cacert", "/no/ca", ECHO), "/no/ca: No such file or directory"),
        (("--as", "caller", "--gateway", "http://localhost:1", ECHO), "write https://HOST:PORT"),
        (("--as", "caller", "--gateway", "localhost", ECHO), "not an address of a gateway"),
        (("--as", "caller", "--gateway", "https://no-such-host.invalid", ECHO), "no such host"),
    ],
)
async def test_what_cannot_be_asked_is_one_clear_line_and_exit_status_2(
    shell: Shell, arguments: tuple[str, ...], told: str
) -> None:
    result = await shell(*arguments, code=2, asked=False)
    assert told in line(result)
    assert result.stdout == ""


async def test_the_same_in_chinese_and_as_json(shell: Shell) -> None:
    assert line(await shell("--lang", "zh", ECHO, code=2, asked=False)).endswith(
        "请说明由谁调用：--as 部门，或 --cert、--key 和 --cacert"
    )
    result = await shell("--json", ECHO, code=2, asked=False)
    assert result.stdout == ""
    assert "say who calls" in json.loads(result.stderr)["error"]["detail"]
    assert (await shell("--lang", "fr", ECHO, code=2, asked=False)).stdout == ""


async def test_files_that_are_something_else_are_named(shell: Shell, mesh: Mesh, tmp_path: Path) -> None:
    certificate, key = mesh.trial.files("caller")
    other_key = mesh.trial.files("stranger")[1]
    text = tmp_path / "note.txt"
    text.write_text("hello")
    locked = tmp_path / "locked.key"
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    sealed = serialization.BestAvailableEncryption(b"secret")
    locked.write_bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed))
    trusted = str(mesh.trial.trust_anchors)
    cases = [
        (certificate, other_key, trusted, f"{other_key} is not the key of {certificate}"),
        (certificate, text, trusted, f"{text} is not a PEM key"),
        (text, key, trusted, str(text)),
        (certificate, key, str(text), f"{text} holds no PEM certificate"),
        (mesh.trial.files("server")[0], mesh.trial.files("server")[1], trusted, "server.crt has no URI"),
        (certificate, locked, trusted, f"{locked} is encrypted"),
    ]
    for one, its_key, anchors, told in cases:
        files = ("--cert", str(one), "--key", str(its_key), "--cacert", anchors)
        assert told in line(await shell(*files, ECHO, code=2, asked=False))


@pytest.mark.parametrize(
    ("party", "why"), [("foreign", "unknown ca"), ("expired", "certificate expired"), ("early", "")]
)
async def test_a_certificate_that_is_not_accepted_is_said_and_where_to_ask_why(
    shell: Shell, mesh: Mesh, party: str, why: str
) -> None:
    issued = mesh.certificates[party]
    files = ("--cert", str(issued.certificate), "--key", str(issued.key), "--cacert", str(mesh.trial.trust_anchors))
    async with mesh.one_record():
        result = await shell(*files, ECHO, code=2, asked=False)
    assert f"does not accept the certificate {issued.certificate}" in line(result)
    assert why in line(result)
    assert f"datong doctor --cert {issued.certificate}" in line(result)


async def test_a_gateway_of_another_ca_is_not_spoken_to(shell: Shell, mesh: Mesh) -> None:
    foreign = mesh.trial.folder / "foreign" / "ca.pem"
    async with mesh.one_record():
        result = await shell("--as", "caller", "--cacert", str(foreign), ECHO, code=2, asked=False)
    assert f"the gateway's certificate does not verify with {foreign}" in line(result)
    assert "--cacert" in line(result)


async def test_a_gateway_that_is_down_is_said(shell: Shell, free_ports: Callable[[], int]) -> None:
    url = f"https://localhost:{free_ports()}"
    result = await shell("--as", "caller", "--gateway", url, ECHO, code=2, asked=False)
    assert line(result).startswith(f"datong call: no gateway listens at {url}; start one with datong up")


@asynccontextmanager
async def impostor(
    play: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], tls: ssl.SSLContext | None
) -> AsyncIterator[str]:
    server = await asyncio.start_server(play, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}"


async def test_something_that_is_no_gateway_is_said(shell: Shell, mesh: Mesh) -> None:
    async def speak_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        writer.close()

    async with impostor(speak_plainly, None) as url:
        result = await shell("--as", "caller", "--gateway", url, ECHO, code=2, asked=False)
    assert line(result) == f"datong call: {url} does not speak TLS"


async def test_a_gateway_under_another_name_is_not_spoken_to(shell: Shell, mesh: Mesh) -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    request = CertificateRequest(common_name="elsewhere", server_names=("elsewhere.example",))
    issued = mesh.trial.ca.issue("elsewhere", request)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(issued.certificate, issued.key)
    async with impostor(never, tls) as url:
        result = await shell("--as", "caller", "--gateway", url, ECHO, code=2, asked=False)
    assert line(result) == f"datong call: {url}: the gateway's certificate is for another host name"


async def test_a_connection_that_breaks_after_the_request_leaves_it_unknown_and_is_status_1(
    shell: Shell, mesh: Mesh
) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*mesh.trial.files("server"))
    async with impostor(hang_up, tls) as url:
        result = await shell("--as", "caller", "--gateway", url, ECHO, code=1, asked=False)
    assert "whether the department acted is unknown" in line(result)


async def test_a_receipt_of_something_else_is_not_kept(shell: Shell, mesh: Mesh, tmp_path: Path) -> None:
    """Whatever answers: a page of a proxy, or the receipt of another exchange."""
    target = tmp_path / "receipt.json"
    for body in (
        b"<html>welcome</html>",
        b"[]",
        b'{"format":"datong-receipt/1"}',
        b'{"format":"datong-receipt/1","record":"{\\"id\\":\\"another\\"}"}',
        b'{"format":"datong-receipt/2","record":"{\\"id\\":\\"this\\"}"}',
    ):

        async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes = body) -> None:
            head = b"HTTP/1.1 200 OK\r\nX-Road-Request-Id: this\r\nContent-Length: %d\r\n\r\n"
            for content in (b"{}", body):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(head % len(content) + content)
            writer.close()

        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*mesh.trial.files("server"))
        async with impostor(pretend, tls) as url:
            arguments = ("--as", "caller", "--gateway", url, "--receipt", str(target), ECHO)
            result = await shell(*arguments, code=1, asked=False)
        assert "no receipt was written" in line(result)
        assert not target.exists()


async def test_from_a_real_shell_with_a_pipe(mesh: Mesh, tmp_path: Path) -> None:
    """As a program: bytes in, bytes out, nothing beside them, and the exit status."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deploy.cli", "call", "--data", str(mesh.trial.folder), "--gateway", mesh.url),
        *("--as", "caller", "--body", "@-", "--content-type", "application/octet-stream", f"{ECHO}/pipe"),
        cwd=ROOT,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(BINARY)
    mesh.recorded += 1
    assert (process.returncode, err) == (0, b"")
    assert received(mesh, "/pipe").body == BINARY
    assert out == BINARY


@pytest.mark.parametrize("sign", [False, True])
async def test_a_large_file_goes_and_an_answer_becomes_one(
    mesh: Mesh, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: bool
) -> None:
    """In pieces: reading the whole of either would be noticed."""
    sent, got = tmp_path / "sent", tmp_path / "got"
    sent.write_bytes(os.urandom(3 << 20))
    content = sent.read_bytes()
    monkeypatch.setattr(Path, "read_bytes", _only_small(Path.read_bytes))
    service = f"{ECHO.rpartition('/')[0]}/signed/file" if sign else f"{ECHO}/file"
    signed = ("--sign", "--purpose", "trial") if sign else ()
    result = await shell("--as", "caller", service, "--body", f"@{sent}", "--output", str(got), *signed)
    monkeypatch.undo()
    assert (result.stdout, got.read_bytes() == content) == ("", True)
    record = await shell.record()
    assert (record["query"]["request_size"], record["answer"]["body_size"]) == (len(content), len(content))
    assert ("signature_digest" in record["query"]) == sign


def _only_small(read: Callable[[Path], bytes]) -> Callable[[Path], bytes]:
    def read_bytes(path: Path) -> bytes:
        assert path.stat().st_size < 1 << 20
        return read(path)

    return read_bytes


async def test_an_answer_that_breaks_off_leaves_no_file(mesh: Mesh, shell: Shell, tmp_path: Path) -> None:
    got = tmp_path / "got"
    got.write_bytes(b"of before")

    async def cut(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + bytes(4_000_000))
        await writer.drain()

    mesh.backend.written["/cut"] = cut
    result = await shell("--as", "caller", f"{ECHO}/cut", "--output", str(got), code=1)
    assert "datong call: " in line(result)
    assert [each.name for each in tmp_path.iterdir()] == ["got"]
    assert got.read_bytes() == b"of before"
    assert (await shell.record())["outcome"] == "failed"


async def test_a_refusal_is_told_and_not_written(mesh: Mesh, shell: Shell, tmp_path: Path) -> None:
    result = await shell("--as", "stranger", f"{ECHO}/x", "--output", str(tmp_path / "got"), code=1)
    assert "403" in line(result)
    assert list(tmp_path.iterdir()) == []

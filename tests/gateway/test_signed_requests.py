"""Signed requests from caller to department: nobody on the way, the gateway's operator included, can forge a question."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from nats.aio.client import Client
from typer.testing import CliRunner

from ca_auth import CallerKey, sign_request, verify_request
from deploy.cli import app
from deploy.trial_mesh import CALLER
from exchange import (
    QUERY_CONTEXT,
    Headers,
    QueryHead,
    QueryStatement,
    Rfc3339,
    bus_tls,
    evidence_digest,
    inbox_prefix,
    load_identity,
    pack,
    read_answer_statement,
    request_digest,
    seal_all,
    service_nats_subject,
    statement_bytes,
    unpack,
    uuid7,
    verify_receipt,
)
from exchange.messages.envelope import AnswerHead
from exchange.moments import Entropy
from tests.gateway.exchange_mesh import Mesh, Reply, head, service, target

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIGNED = "signed"
"""A service whose grant and whose adapter's contract demand signatures."""
_entropy = Entropy()
_time_text = Rfc3339()


def own_headers(purpose: str = "trial") -> Headers:
    return [(b"x-road-client", CALLER.encode()), (b"datong-purpose", purpose.encode())]


class Caller:
    """Who signs."""

    def __init__(self, mesh: Mesh, party: str = "caller") -> None:
        issued = mesh.certificates.get(party)
        certificate, key = (issued.certificate, issued.key) if issued else mesh.trial.files(party)
        self.key: Any = load_pem_private_key(key.read_bytes(), None)
        self.der = x509.load_pem_x509_certificate(certificate.read_bytes()).public_bytes(Encoding.DER)
        self.fingerprint = load_identity(certificate, key).fingerprint
        self.host = mesh.url.removeprefix("https://").encode()

    def sign(
        self,
        path: str,
        *,
        method: str = "GET",
        headers: Headers | None = None,
        body: bytes = b"",
        created: float = 0,
        nonce: str = "",
    ) -> Headers:
        """The headers of a signed request, all of them but Host."""
        headers = own_headers() if headers is None else headers
        raw, _, query = path.encode().partition(b"?")
        made = sign_request(
            self.key,
            self.fingerprint,
            method=method,
            path=raw,
            query=query,
            headers=[(b"host", self.host), *headers],
            body=body,
            created=int(created or time.time()),
            nonce=nonce,
        )
        return [*headers, *((name.lower().encode(), value.encode()) for name, value in made)]


async def ask_signed(mesh: Mesh, path: str = "/", *, to: str = SIGNED, party: str = "caller", **how: Any) -> Reply:
    """A signed request, asked as it was signed."""
    headers = Caller(mesh).sign(target(to, path), **how)
    return await mesh.ask(
        how.get("method", "GET"), path, to=to, party=party, headers=headers, content=how.get("body"), client=None
    )


async def test_a_signed_request_is_answered_and_the_record_holds_its_digest(mesh: Mesh) -> None:
    reply = await ask_signed(mesh, "/a%20b/c?q=1&q=2", method="POST", body=b'{"x": 1}', headers=[
        *own_headers(), (b"content-type", b"application/json"), (b"x-road-issue", "沪房〔2026〕1号".encode()),
        (b"x-road-userid", b"clerk 7"), (b"x-road-id", b"our-1"), (b"datong-channel", b"hall"),
        (b"datong-subject", b"990100199001010017"), (b"x-own", b"value"),
    ])  # fmt: skip
    assert reply.status == 200, reply.response.text
    assert reply.query["case"] == "沪房〔2026〕1号"
    assert len(reply.query["signature_digest"]) == 64
    evidence = await mesh.log.evidence(reply.record["id"])
    assert evidence is not None
    assert b'"@path": ' + target(SIGNED, "/a%20b/c").encode() in evidence
    assert b"990100199001010017" not in evidence, "the person asked about is kept as a keyed hash only"


async def test_an_unsigned_request_leaves_no_trace_of_signatures(mesh: Mesh) -> None:
    reply = await mesh.ask()
    assert reply.status == 200
    assert "signature_digest" not in reply.query
    assert await mesh.log.evidence(reply.record["id"]) is None


async def test_a_grant_that_demands_signatures_refuses_a_request_without(mesh: Mesh) -> None:
    reply = await mesh.ask(to=SIGNED, headers={"Datong-Purpose": "trial"})
    problem = mesh.problem(reply, 401, "signature-missing")
    assert "datong call --sign" in problem["next"]
    assert reply.record["outcome"] == "refused"


async def test_a_signature_that_nobody_demands_is_checked_all_the_same(mesh: Mesh) -> None:
    reply = await ask_signed(mesh, to="echo")
    assert (reply.status, len(reply.query["signature_digest"])) == (200, 64)
    stale = await ask_signed(mesh, to="echo", created=time.time() - 100)
    mesh.problem(stale, 401, "signature-time")


async def test_a_signature_for_somebody_else_is_not_looked_at_unless_demanded(mesh: Mesh) -> None:
    other = {"Signature-Input": 'proxy=("@method");created=1;tag="proxy"', "Signature": "proxy=:AAAA:"}
    other["Datong-Purpose"] = "trial"
    assert (await mesh.ask(headers=other)).status == 200
    mesh.problem(await mesh.ask(to=SIGNED, headers=other), 400, "signature-form")


async def test_a_signed_request_names_its_purpose_itself(mesh: Mesh) -> None:
    """A purpose that the grant implies would be the gateway's word."""
    reply = await ask_signed(mesh, to="echo", headers=[(b"x-road-client", CALLER.encode())])
    assert "Datong-Purpose" in mesh.problem(reply, 401, "signature-coverage")["next"]


CHANGES: dict[str, dict[str, Any]] = {
    "path": {"path": "/other"},
    "query": {"path": "/?all=true"},
    "method": {"method": "DELETE"},
    "body": {"content": b"forged"},
    "purpose": {"replace": (b"datong-purpose", b"review")},
    "case": {"replace": (b"x-road-issue", b"2")},
    "a case added": {"add": (b"x-road-represented-party", b"somebody")},
    "another header": {"replace": (b"x-own", b"2")},
    "a header added": {"add": (b"x-http-method-override", b"DELETE")},
}


@pytest.mark.parametrize("change", CHANGES)
async def test_what_is_changed_on_the_way_is_refused(mesh: Mesh, change: str) -> None:
    how = CHANGES[change]
    headers = [*own_headers(), (b"x-road-issue", b"1"), (b"x-own", b"1"), (b"content-type", b"text/plain")]
    signed = Caller(mesh).sign(target(SIGNED), method="POST", headers=headers, body=b"honest")
    if "replace" in how:
        signed = [how["replace"] if name == how["replace"][0] else (name, value) for name, value in signed]
    signed += [how["add"]] if "add" in how else []
    reply = await mesh.ask(
        how.get("method", "POST"),
        how.get("path", "/"),
        to=SIGNED,
        headers=signed,
        content=how.get("content", b"honest"),
        client=None,
    )
    assert reply.status in (400, 401)
    assert reply.record["rule"] in ("signature-verify", "signature-coverage", "content-digest")
    mesh.problem(reply, reply.status, reply.record["rule"])


async def test_what_a_caller_is_shown_of_the_base_is_neither_recorded_nor_logged(mesh: Mesh) -> None:
    headers = Caller(mesh).sign(target(SIGNED, "/990100199001010017"))
    reply = await mesh.ask("GET", "/990100199001010018", to=SIGNED, headers=headers, client=None)
    assert "990100199001010018" in mesh.problem(reply, 401, "signature-verify")["next"]
    assert "990100199001010018" not in json.dumps(reply.record)
    events = (mesh.trial.folder / "run" / "gateway.log").read_text(encoding="utf-8")
    assert reply.record["id"] in events
    assert "990100199001010018" not in events


@pytest.mark.parametrize("seconds", [-90, 90])
async def test_a_signature_too_old_or_from_the_future_is_refused(mesh: Mesh, seconds: int) -> None:
    mesh.problem(await ask_signed(mesh, created=time.time() + seconds), 401, "signature-time")


async def test_a_replay_is_refused_everywhere_and_after_a_restart(mesh: Mesh) -> None:
    """The same bytes again: here, at another process, and at one that was started later."""
    headers = [(b"host", Caller(mesh).host), *Caller(mesh).sign(target(SIGNED))]

    async def again(url: str | None) -> Reply:
        return await mesh.ask(to=SIGNED, headers=headers, client=None, url=url)

    second = await mesh.trial.add_gateway("second")
    try:
        assert (await again(second.ready_text())).status == 200
        mesh.problem(await again(second.ready_text()), 401, "signature-nonce")
        mesh.problem(await again(None), 401, "signature-nonce")
    finally:
        await mesh.trial.supervisor.stop_child("second")
    third = await mesh.trial.add_gateway("third")
    try:
        mesh.problem(await again(third.ready_text()), 401, "signature-nonce")
    finally:
        await mesh.trial.supervisor.stop_child("third")
        mesh.trial.gateways[1:] = []


async def test_of_many_copies_at_once_one_is_answered(mesh: Mesh) -> None:
    headers = Caller(mesh).sign(target(SIGNED))
    replies = await asyncio.gather(
        *(mesh.ask(to=SIGNED, headers=headers, client=None) for _ in range(8)), return_exceptions=True
    )
    statuses = sorted(reply.status for reply in replies if isinstance(reply, Reply))
    assert statuses == [200] + [401] * 7


async def test_another_party_cannot_use_a_signature(mesh: Mesh) -> None:
    """Whoever took the bytes from the caller has not its certificate."""
    reply = await ask_signed(mesh, party="member")
    mesh.problem(reply, 401, "signature-key")


async def test_a_large_signed_body_arrives_in_parts(mesh: Mesh) -> None:
    body = b"x" * (1 << 20)
    headers = [*own_headers(), (b"content-type", b"text/plain")]
    assert (await ask_signed(mesh, method="POST", body=body, headers=headers)).status == 200


async def test_a_grant_that_demands_signatures_from_now_on_counts_for_a_body_on_its_way(mesh: Mesh) -> None:
    """The body took its time: what counts is what is granted when it is there."""
    trial = mesh.trial
    code = "choosy"
    found = await trial.registry.grants(client=CALLER, service=service(code))
    async with mesh.connect() as caller:
        lines = ("Content-Length: 2", "Datong-Purpose: audit")
        await caller.send(head("POST", target(code), *lines) + b"a")
        await asyncio.sleep(0.3)  # the gateway looks again after 250 ms
        for grant in found:
            await trial.registry.revoke(grant.id, by="test", why="test")
        await trial.registry.grant(
            client=CALLER,
            service=service(code),
            purposes=["review", "audit"],
            signed_requests=True,
            valid_to=found[0].valid_to,
            by="test",
            why="test",
        )
        while (await mesh.ask(to=code, headers={"Datong-Purpose": "audit"})).record["rule"] != "signature-missing":
            await asyncio.sleep(0.02)
        async with mesh.one_record() as records:
            await caller.send(b"b")
            assert (await caller.answer()).status_code == 401
    assert records[0]["rule"] == "signature-missing"


async def receipt(mesh: Mesh, reply: Reply, party: str) -> bytes:
    response = await mesh.client(party).get(f"/v1/exchanges/{reply.record['id']}/receipt")
    assert response.status_code == 200, response.text
    return response.content


async def test_the_receipt_proves_offline_what_the_caller_signed(mesh: Mesh, tmp_path: Path) -> None:
    reply = await ask_signed(mesh, "/990100199001010017")
    keys = (mesh.trial.folder / "keys.json").read_bytes()
    for party in ("caller", "provider"):
        shown = await receipt(mesh, reply, party)
        checks = {check.name: check for check in verify_receipt(shown, keys, answer_body=reply.response.content)}
        assert all(check.ok for check in checks.values()), checks
        assert "signed the request" in checks["signature"].en
        assert b"990100199001010017" in shown
    (tmp_path / "receipt.json").write_bytes(shown)
    arguments = ["verify", str(tmp_path / "receipt.json"), "--keys", str(mesh.trial.folder / "keys.json")]
    done = CliRunner().invoke(app, [*arguments, "--lang", "zh"])
    assert done.exit_code == 0, done.output
    assert "✓ 调用方签名" in done.output


async def test_an_auditor_s_receipt_says_that_it_was_signed_and_does_not_show_the_path(mesh: Mesh) -> None:
    reply = await ask_signed(mesh, "/990100199001010017")
    shown = await receipt(mesh, reply, "auditor")
    assert b"990100199001010017" not in shown
    keys = (mesh.trial.folder / "keys.json").read_bytes()
    checks = {check.name: check for check in verify_receipt(shown, keys)}
    assert all(check.ok for check in checks.values()), checks
    assert "does not show" in checks["signature"].en


async def test_the_command_signs(mesh: Mesh, tmp_path: Path) -> None:
    folder = mesh.trial.folder
    files = [
        *("--cert", str(folder / "pki" / "caller.crt"), "--key", str(folder / "pki" / "caller.key")),
        *("--cacert", str(folder / "pki" / "ca.pem"), "--gateway", mesh.url, "--lang", "en"),
    ]
    question = ["call", f"{service(SIGNED)}/a?b=1", *files, "--body", '{"中": 1}', "--case", "沪房〔2026〕1号"]

    async def run(*options: str) -> Any:
        return await asyncio.to_thread(CliRunner().invoke, app, [*question, *options])

    kept = tmp_path / "receipt.json"
    async with mesh.one_record() as records:
        done = await run("--sign", "--purpose", "trial", "-H", "X-Own: 1", "--receipt", str(kept))
        assert done.exit_code == 0, done.output
    assert len(records[0]["query"]["signature_digest"]) == 64
    checks = verify_receipt(kept.read_bytes(), (folder / "keys.json").read_bytes())
    assert all(check.ok for check in checks)
    async with mesh.one_record() as records:
        assert (await run("--purpose", "trial")).exit_code == 1
    assert records[0]["rule"] == "signature-missing"
    done = await run("--sign")
    assert done.exit_code == 2
    assert "--purpose" in done.output


# -- a gateway whose operator lies


class RogueGateway:
    """The gateway's own key and place on the bus, in the hands of somebody who forges."""

    def __init__(self, mesh: Mesh, client: Client) -> None:
        self.identity = load_identity(*mesh.trial.files("gateway"))
        self.client = client
        self.caller = Caller(mesh)

    async def ask(
        self,
        evidence: bytes,
        *,
        by: Caller | None = None,
        to: str = SIGNED,
        path: bytes = b"/honest",
        body: bytes = b"",
        headers: Headers | None = None,
        **lies: Any,
    ) -> str:
        """What the adapter says: nothing if it answered, else the code of its error."""
        now = time.time_ns() // 1_000_000
        salt = _entropy.draw(16)
        by = by or self.caller
        exchange_id = uuid7(now, _entropy)
        message_id = f"{CALLER.split('/')[0]}-{exchange_id}"
        forwarded = [*(own_headers() if headers is None else headers), (b"x-road-id", message_id.encode())]
        forwarded.append((b"x-road-request-id", exchange_id.encode()))
        method = lies.get("method", "GET")
        fields: dict[str, Any] = {
            "asked_at": _time_text(now),
            "certificate": by.fingerprint,
            "client": CALLER,
            "deadline": _time_text(now + 5000),
            "gateway": self.identity.fingerprint,
            "grant": "g1@1",
            "id": exchange_id,
            "message_id": message_id,
            "method": "GET",
            "path_template": "/**",
            "purpose": "trial",
            "request_digest": request_digest(salt, method, path, forwarded, body),
            "request_size": len(body),
            "safe": True,
            "service": service(to),
            "signature_digest": evidence_digest(salt, evidence) if evidence else msgspec.UNSET,
            **dict.fromkeys(("case", "channel", "represented", "subject", "user"), ""),
        }
        sealed = statement_bytes(QueryStatement(**{**fields, **lies}))
        seal = seal_all(self.identity.key, QUERY_CONTEXT, [sealed])[0]
        question = QueryHead(sealed, seal, salt, path, forwarded, 5000, 0, evidence, by.der)
        reply = await self.client.request(service_nats_subject(service(to)), pack(question, body), timeout=10)
        answer, _ = unpack(AnswerHead, reply.data)
        return read_answer_statement(answer.statement).error


@asynccontextmanager
async def rogue_gateway(mesh: Mesh) -> AsyncIterator[RogueGateway]:
    client = Client()
    files = mesh.trial.files("gateway")
    prefix = inbox_prefix(load_identity(*files).uri).encode()
    tls = bus_tls(*files, mesh.trial.trust_anchors)
    await client.connect(servers=[mesh.trial.nats.url], tls=tls, tls_handshake_first=True, inbox_prefix=prefix)
    try:
        yield RogueGateway(mesh, client)
    finally:
        await client.close()


def evidence_from(caller: Caller, path: str = "/honest", **how: Any) -> bytes:
    """What a caller signed, as a gateway holds it."""
    how = {"method": "GET", "body": b"", **how}
    raw, _, query = target(SIGNED, path).encode().partition(b"?")
    headers = [(b"host", caller.host), *caller.sign(target(SIGNED, path), **how)]
    created = how.get("created") or time.time()
    return verify_request(
        method=how["method"],
        path=raw,
        query=query,
        headers=headers,
        body=how["body"],
        caller=CallerKey.of(caller.der),
        now=created,
    ).evidence


async def test_a_gateway_that_is_honest_is_believed(mesh: Mesh) -> None:
    """The lies below fail for what is false in them."""
    async with rogue_gateway(mesh) as rogue:
        assert await rogue.ask(evidence_from(rogue.caller)) == ""
        digest = b"sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"
        body = b'{"hello": "world"}'
        evidence = evidence_from(rogue.caller, method="POST", body=body)
        headers = [*own_headers(), (b"content-digest", digest)]
        assert await rogue.ask(evidence, method="POST", body=body, headers=headers) == ""


LIES: dict[str, dict[str, Any]] = {
    "another path": {"path": b"/forged"},
    "a query": {"path": b"/honest?all=true"},
    "another method": {"method": "DELETE"},
    "a body": {"body": b"forged"},
    "another purpose": {"purpose": "review"},
    "another purpose, in the header too": {"purpose": "review", "headers": own_headers("review")},
    "a case": {"case": "1"},
    "an official": {"user": "somebody"},
    "another client": {"client": f"{CALLER.rpartition('/')[0]}/sibling"},
    "an added header": {"headers": [*own_headers(), (b"x-http-method-override", b"DELETE")]},
    "a header left out": {"headers": own_headers()[:1]},
    "another service": {"to": "echo"},
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_gateway_that_changes_what_was_signed_is_refused_by_the_adapter(mesh: Mesh, lie: str) -> None:
    async with rogue_gateway(mesh) as rogue:
        assert await rogue.ask(evidence_from(rogue.caller), **LIES[lie]) == "question-refused"


async def test_a_gateway_cannot_make_up_a_question(mesh: Mesh) -> None:
    """Without the caller's key: no signature at all, its own, one by a certificate of its own making, an old one."""
    async with rogue_gateway(mesh) as rogue:
        assert await rogue.ask(b"") == "question-refused", "the contract demands a signature, whatever the grant says"
        own = Caller(mesh, "gateway")
        assert await rogue.ask(evidence_from(own)) == "question-refused", "another key than the certificate's"
        assert await rogue.ask(evidence_from(own), by=own) == "question-refused", "it may not speak for the client"
        forged = Caller(mesh, "foreign")  # it names the client
        assert await rogue.ask(evidence_from(forged), by=forged) == "question-refused", "a CA that nobody here accepts"
        assert await rogue.ask(evidence_from(rogue.caller, created=time.time() - 150)) == "question-refused"
        assert await rogue.ask(evidence_from(rogue.caller, created=time.time() + 150)) == "question-refused"


async def test_a_gateway_cannot_ask_again_what_was_signed_once(mesh: Mesh) -> None:
    async with rogue_gateway(mesh) as rogue:
        evidence = evidence_from(rogue.caller)
        assert await rogue.ask(evidence) == ""
        assert await rogue.ask(evidence) == "question-refused"


async def test_why_a_question_was_refused_stands_in_the_department_s_own_log(mesh: Mesh) -> None:
    async with rogue_gateway(mesh) as rogue:
        assert await rogue.ask(b"") == "question-refused"
    text = (mesh.trial.folder / "run" / "adapter.log").read_text(encoding="utf-8")
    assert "takes signed questions only" in text

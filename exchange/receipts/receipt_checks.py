"""The checks of a receipt, one after the other. `exchange.receipts.receipt` makes and verifies receipts; here is what is looked at.

Rule: nothing is imported here but the standard library, `cryptography`, and modules that keep to this rule.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning

from exchange.canonical_json import canonical, parse_canonical
from exchange.identifiers import METASERVICES
from exchange.receipts.certificate_path import UNREADABLE, CertificateError, check_path, holds_code_of, names
from exchange.receipts.revocation_evidence import RevocationNews
from exchange.release.terms import read_terms
from exchange.signatures.recorded_signatures import check_evidence, evidence_digest
from exchange.signatures.seal import ANSWER_CONTEXT, QUERY_CONTEXT, PublicKey, SealError, check_seal
from exchange.signatures.signature_base import SignatureBaseError
from exchange.signatures.signed_questions import (
    SignedQuestionError,
    check_forwarded,
    check_recorded_body,
    check_statement,
)
from exchange.transparency.checkpoint import (
    Checkpoint,
    NoteError,
    NoteVerifier,
    TlogProof,
    decode_base64,
    open_checkpoint,
)
from exchange.transparency.cosignature import check_cosignatures
from exchange.transparency.merkle import ProofError, check_inclusion, hash_leaf
from exchange.transparency.trust_policy import TrustPolicy

FORMAT = "datong-receipt/1"
KEYS_FORMAT = "datong-keys/1"
_MAX_SIZE = 4 << 20
_FIELDS = {"format", "record", "salt", "certificates", "tlog_proof"}
_MAY_HAVE = {"evidence", "revocations", "stamps"}
"""The caller's own signature: in receipts for caller and owner, of a request that was signed. CRLs and OCSP responses; RFC 3161
tokens over the checkpoint."""
_BINARY = ("revocations", "stamps")
_RECORD_FIELDS = {
    *("answer", "answer_seal", "certificate_notes", "certificate_serial", "code"),
    *("duration_us", "ended_at", "id", "outcome", "passed_on", "person", "query"),
    *("query_seal", "rule", "salt_digest", "source", "status", "v"),
}
_SIGNED_SECONDS = 300
"""How far signing and asking may lie apart: a minute, and the time a body takes to arrive."""
_ALWAYS = _RECORD_FIELDS - {
    *("answer", "answer_seal", "certificate_notes", "passed_on", "person", "query_seal", "salt_digest"),
}


State = Literal["ok", "absent", "pending", "failed"]
"""Of a check: it holds; there is nothing to be checked; what the key list demands is not there yet; it does not hold."""
Verdict = Literal["final", "pending", "invalid"]
_DEMANDS = frozenset({"stamped", "revocation", "signature"})


class ReceiptError(ValueError):
    """What was given cannot be used at all: not a key list, or not a receipt."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    """form, checkpoint, inclusion, witnessed, stamped, record, caller, signature, gateway, adapter, binding, revocation,
    certificates; request and answer, if they were given; release, if only some items were; of a change of the registry and of
    an act on the log: change or act and decider instead of what concerns an exchange."""
    ok: bool
    en: str
    zh: str
    state: State = "ok"


def verdict(checks: Sequence[Check]) -> Verdict:
    """What the checks come to: a receipt is final when all hold, and pending when all but those that wait for others do."""
    if all(check.ok for check in checks):
        return "final"
    return "pending" if all(check.ok or check.state == "pending" for check in checks) else "invalid"


@dataclass(frozen=True, slots=True)
class SentRequest:
    """What the caller sent, as it was forwarded: to be compared with the digest in the record."""

    method: str
    target: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Keys:
    """Whom a verifier trusts: logs, and certificate authorities."""

    logs: tuple[NoteVerifier, ...]
    trust_anchors: tuple[x509.Certificate, ...]
    policy: TrustPolicy | None = None
    """Which witnesses make a checkpoint final; None: no one has to have seen it."""
    timestamp_authorities: tuple[x509.Certificate, ...] = ()
    """Trust anchors of those that stamp checkpoints."""
    demands: frozenset[str] = frozenset()
    """Checks that must find something: of stamped, revocation, signature."""

    @classmethod
    def from_json(cls, data: bytes) -> Keys:
        """Parse a key list; raises ReceiptError."""
        try:
            content = json.loads(data)
            if content["format"] != KEYS_FORMAT:
                raise ValueError("another format")
            logs = tuple([NoteVerifier.from_vkey(vkey) for vkey in content["logs"]])
            anchors = _certificates_in(content["trust_anchors"])
            policy = TrustPolicy.from_text(content["policy"]) if content.get("policy") else None
            authorities = _certificates_in(content.get("timestamp_authorities", []))
            demands = frozenset(content.get("demands", []))
            if demands - _DEMANDS:
                raise ValueError(f"a demand is one of {', '.join(sorted(_DEMANDS))}")
        except (ValueError, TypeError, KeyError, AttributeError, *UNREADABLE) as error:
            raise ReceiptError(f"not a key list ({KEYS_FORMAT}): {error}") from error
        return cls(logs, anchors, policy, authorities, demands)


def _certificates_in(bundles: Sequence[str]) -> tuple[x509.Certificate, ...]:
    return tuple([one for pem in bundles for one in x509.load_pem_x509_certificates(pem.encode())])


class CheckError(Exception):
    """A check failed; why, in English and Chinese."""

    state: State = "failed"

    def __init__(self, en: str, zh: str) -> None:
        super().__init__(en)
        self.zh = zh


class NothingToCheckError(CheckError):
    """There is nothing to be checked."""

    state = "absent"


class PendingError(CheckError):
    """What the key list demands is not there yet, and may still come."""

    state = "pending"


Step = Callable[[], tuple[str, str]]
"""Makes one check and returns what it found, in English and Chinese, or raises."""


def outcome_of_check(name: str, step: Step) -> Check:
    """Make one check; whatever goes wrong in it is its outcome."""
    try:
        en, zh = step()
    except CheckError as failure:
        return Check(name, failure.state == "absent", str(failure), failure.zh, failure.state)
    except NoteError as error:
        return _failed(name, str(error), f"检查点格式或签名无效：{error}")
    except ProofError as error:
        return _failed(name, str(error), f"包含证明不成立：{error}")
    except SealError as error:
        return _failed(name, str(error), f"签名无效：{error}")
    except (CertificateError, SignedQuestionError) as error:
        return _failed(name, str(error), error.zh)
    except SignatureBaseError as error:
        return _failed(name, f"the caller's signature: {error}", "调用方签名无效")
    except (KeyError, TypeError, AttributeError, ValueError, *UNREADABLE):
        # Whoever made the record chose the types in it; this check cannot make sense of them.
        return _failed(name, "the record does not hold what this check needs", "记录缺少此项检查所需的内容")
    return Check(name, True, en, zh)


def _failed(name: str, en: str, zh: str) -> Check:
    return Check(name, False, en, zh, "failed")


@dataclass(frozen=True, slots=True)
class ParsedReceipt:
    """A receipt whose form is right, and nothing else of it known."""

    leaf: bytes
    record: dict[str, Any]
    salt: bytes
    certificates: tuple[x509.Certificate, ...]
    proof: str
    evidence: str | None = None
    news: RevocationNews | None = None
    """Of revocations; None if the receipt holds none."""
    stamps: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> ParsedReceipt:
        if len(data) > _MAX_SIZE:
            raise ReceiptError("it is too large")
        content = _parse(data.removesuffix(b"\n"))
        if not _FIELDS <= content.keys() <= _FIELDS | _MAY_HAVE or content["format"] != FORMAT:
            raise ReceiptError(f"not of the form {FORMAT}")
        texts = [content["record"], content["salt"], content["tlog_proof"], content.get("evidence", "")]
        for name in ("certificates", "revocations", "stamps"):
            texts += content.get(name, [])
        if not all(isinstance(text, str) for text in texts):
            raise ReceiptError("its members are not texts")
        if any(name in content and not content[name] for name in ("revocations", "stamps")):
            raise ReceiptError("what is empty is left out")
        leaf = content["record"].encode()
        try:
            with warnings.catch_warnings():
                # What is merely unusual in a certificate is for the checks to judge, not for a warning on the screen.
                warnings.simplefilter("ignore", CryptographyDeprecationWarning)
                certificates = [x509.load_pem_x509_certificate(pem.encode()) for pem in content["certificates"]]
            salt = decode_base64(content["salt"])
            revocations, stamps = ([decode_base64(one) for one in content.get(name, ())] for name in _BINARY)
            news = RevocationNews(revocations) if revocations else None
        except (ValueError, *UNREADABLE) as error:
            raise ReceiptError(str(error)) from error
        if [one.public_bytes(Encoding.PEM).decode() for one in certificates] != content["certificates"]:
            raise ReceiptError("a certificate is not in canonical PEM")
        proof, evidence = content["tlog_proof"], content.get("evidence")
        return cls(leaf, _parse(leaf), salt, tuple(certificates), proof, evidence, news, tuple(stamps))


class Verification:
    """The checks, in order. Each returns what it found, in English and Chinese, or raises."""

    def __init__(self, receipt: ParsedReceipt, keys: Keys) -> None:
        self._receipt = receipt
        self._keys = keys
        self._record = receipt.record
        query, answer = self._record.get("query"), self._record.get("answer")
        self._query: dict[str, Any] = query if isinstance(query, dict) else {}
        self._answer: dict[str, Any] = answer if isinstance(answer, dict) else {}
        self._certificates = {_fingerprint(one): one for one in receipt.certificates}
        self._used: set[str] = set()
        self._paths: list[tuple[list[x509.Certificate], datetime]] = []
        """Paths that were relied on, from a certificate to its anchor, and for which moment."""
        self._opened: Checkpoint | None = None

    def steps(self, request: SentRequest | None) -> dict[str, Step]:
        """The checks by name, in the order in which they are made: later ones rely on what earlier ones found."""
        return {
            "checkpoint": self.checkpoint,
            "inclusion": self.inclusion,
            "witnessed": self.witnessed,
            "stamped": self.stamped,
            "record": self.record,
            "caller": self.caller,
            "signature": lambda: self.signature(request),
            "gateway": self.gateway,
            "adapter": self.adapter,
            "binding": self.binding,
            **({"release": self.release} if self._speaks_of_release() else {}),
            "revocation": self.revocation,
            "certificates": self.certificates,
        }

    def checkpoint(self) -> tuple[str, str]:
        """The checkpoint in the receipt is signed by a log on the list."""
        proof = TlogProof.from_text(self._receipt.proof)
        if proof.text != self._receipt.proof or proof.extra:
            raise NoteError("the proof is not in canonical form")
        self._opened = opened = open_checkpoint(proof.checkpoint, self._keys.logs)
        return f"{opened.origin} signed {opened.size} entries", f"{opened.origin} 已签署 {opened.size} 条记录"

    def inclusion(self) -> tuple[str, str]:
        """The record is in that log."""
        proof = TlogProof.from_text(self._receipt.proof)
        if self._opened is None:
            raise CheckError("no checkpoint to compare with", "没有可比对的检查点")
        leaf_hash = hash_leaf(self._receipt.leaf)
        check_inclusion(leaf_hash, proof.index, self._opened.size, self._opened.root, proof.hashes)
        return f"entry {proof.index} of the log", f"日志第 {proof.index} 条记录"

    def witnessed(self) -> tuple[str, str]:
        """As many witnesses as the key list wants have cosigned the checkpoint."""
        note, policy = TlogProof.from_text(self._receipt.proof).checkpoint, self._keys.policy
        lines = len(note.rpartition("\n\n")[2].splitlines())
        if policy is None:
            raise NothingToCheckError(
                f"the key list names no witnesses; {lines - 1} have signed",
                f"密钥列表未列见证方；另有 {lines - 1} 个签名",
            )
        if self._opened is None:
            raise CheckError("no checkpoint to compare with", "没有可比对的检查点")
        times = check_cosignatures(note, [witness.verifier for witness in policy.witnesses])
        if lines != 1 + len(times):
            raise CheckError("it holds signatures of nobody on the key list", "含有密钥列表以外的签名")
        seen = {one.name: times[one.verifier.name] for one in policy.witnesses if one.verifier.name in times}
        told = ", ".join(f"{name} at {_moment(at)}" for name, at in seen.items()) or "nobody"
        told_zh = "、".join(f"{name}（{_moment(at)}）" for name, at in seen.items()) or "无"
        if not policy.satisfied_by(seen.keys()):
            raise PendingError(
                f"pending: cosigned by {told}; the quorum {policy.quorum} is not reached",
                f"待定：见证方 {told_zh}；尚未达到法定数 {policy.quorum}",
            )
        return f"cosigned by {told}", f"见证方 {told_zh}"

    def stamped(self) -> tuple[str, str]:
        """An authority has stamped the checkpoint: it was there by then."""
        proof, keys = TlogProof.from_text(self._receipt.proof), self._keys
        if not self._receipt.stamps:
            failure = PendingError if "stamped" in keys.demands else NothingToCheckError
            raise failure("no time stamp is in the receipt", "回执中没有时间戳")
        if not keys.timestamp_authorities:
            raise NothingToCheckError(
                f"the key list names no time stamping authority; {len(self._receipt.stamps)} stamps were not looked at",
                f"密钥列表未列时间戳机构，{len(self._receipt.stamps)} 个时间戳未核验",
            )
        # Loaded when there is a stamp: most receipts have none.
        from exchange.timestamps.token import StampError, check_token

        text = proof.checkpoint.rpartition("\n\n")[0] + "\n"
        try:
            stamps = [check_token(each, text.encode(), keys.timestamp_authorities) for each in self._receipt.stamps]
        except StampError as error:
            raise CheckError(f"a time stamp does not verify: {error}", "时间戳无效") from error
        earliest = min(stamp.gen_time for stamp in stamps)
        when = earliest.strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"{len(stamps)} stamps; it was there by {when}", f"{len(stamps)} 个时间戳；不晚于 {when} 已存在"

    def revocation(self) -> tuple[str, str]:
        """None of the certificates that were relied on was revoked at the time."""
        news = self._receipt.news
        used: set[int] = set()
        cleared, unclear = 0, []
        for path, at in self._paths:
            for certificate, issuer in itertools.pairwise(path):
                found = news.cleared(certificate, issuer, at) if news is not None else None
                if found is None:
                    unclear.append(subject_of(certificate))
                else:
                    used.add(found.place)
                    cleared += 1
        if news is not None and len(used) != len(news):
            raise CheckError("it holds news of revocations that no certificate needed", "含有无关的吊销信息")
        if not self._paths:
            raise NothingToCheckError("nothing was carried on the strength of a certificate", "未依据证书转发任何内容")
        if unclear:
            names = "; ".join(dict.fromkeys(unclear))
            failure = CheckError if "revocation" in self._keys.demands else NothingToCheckError
            raise failure(
                f"the receipt does not show it for {names}; the gateway vouches for it",
                f"回执未含下列证书的吊销信息，由网关担保：{names}",
            )
        return f"{cleared} certificates were not revoked at the time", f"{cleared} 份证书当时均未吊销"

    def record(self) -> tuple[str, str]:
        """The record says nothing that contradicts itself or the statements in it."""
        record, query, answer = self._record, self._query, self._answer
        if not _ALWAYS <= record.keys() <= _RECORD_FIELDS or record["v"] != 1:
            raise CheckError("it is not a record of a kind known here", "不是已知格式的记录")
        if ("answer" in record) != ("answer_seal" in record) or ("answer" in record and "query_seal" not in record):
            raise CheckError("a statement and its seal are not both there", "陈述与签名不成对")
        salt = self._receipt.salt
        if salt and record.get("salt_digest") not in (None, hashlib.sha256(salt).hexdigest()):
            raise CheckError("the salt beside it is another one", "旁存的盐值与记录不符")
        if query and query.get("id") != record["id"]:
            raise CheckError("record and query name different exchanges", "记录与请求的交换编号不同")
        if record["outcome"] not in ("answered", "refused", "failed", "unknown"):
            raise CheckError("its outcome is none of ours", "结果类型无效")
        if self._answered_here():
            if (
                not 200 <= record["status"] <= 299
                or record["code"]
                or str(query["service"]).rpartition("/")[2] not in METASERVICES
            ):
                raise CheckError("it says answered, and nobody answered", "记录为已应答，但没有应答方")
        elif record["outcome"] == "answered":
            agrees = answer.get("status") == record["status"] and not answer.get("error") and not record["code"]
            if not (answer and agrees):
                raise CheckError("it says answered, and the answer does not", "记录为已应答，但应答内容不符")
        elif record["outcome"] == "refused" and "answer" in record:
            raise CheckError("it says refused, and holds an answer", "记录为已拒绝，却含有应答")
        client, service = query.get("client") or "?", query.get("service") or "?"
        outcome, purpose, grant = record["outcome"], query.get("purpose") or "-", query.get("grant") or "-"
        return (
            f"{client} asked {service} at {query.get('asked_at', '?')}, purpose {purpose}, grant {grant}: {outcome}",
            f"{client} 于 {query.get('asked_at', '?')} 请求 {service}，用途 {purpose}，授权 {grant}：{outcome}",
        )

    def _answered_here(self) -> bool:
        """Whether the gateway answered by itself: metaservices, of which no department knows."""
        record = self._record
        carried = "answer" in record or "query_seal" in record
        return record["outcome"] == "answered" and record["source"] == "gateway" and not carried

    def caller(self) -> tuple[str, str]:
        """Whose certificate asked."""
        fingerprint = self._query.get("certificate", "")
        if not fingerprint:
            if "query_seal" in self._record:
                raise CheckError("the query names no certificate", "请求未注明证书")
            return "no certificate was accepted; nothing was carried", "没有被接受的证书，未转发"
        if "query_seal" not in self._record and fingerprint not in self._certificates:
            return "nothing was carried on the strength of its certificate", "未依据其证书转发任何内容"
        if self._record.get("person") and fingerprint not in self._certificates:
            # It holds the person's number, so nobody keeps it; whoever has it can compare its hash.
            return f"a natural person, by certificate {fingerprint}", f"自然人，证书指纹 {fingerprint}"
        certificate = self._certificate(fingerprint)
        serial = self._record.get("certificate_serial", "")
        if (serial or "query_seal" in self._record) and not _same_number(serial, certificate.serial_number):
            raise CheckError("the record names another serial number", "记录中的证书序列号不符")
        if "query_seal" not in self._record:
            self._used.add(fingerprint)
            return (
                f"it held {subject_of(certificate)}; nothing was carried",
                f"所持证书 {subject_of(certificate)}，未转发",
            )
        self._check_path(certificate, self._query.get("asked_at"))
        client = str(self._query.get("client", ""))
        if not names(certificate, client) and not holds_code_of(certificate, client):
            raise CheckError("the certificate may not speak for the client", "证书不能代表该调用方")
        return f"{subject_of(certificate)}, valid at the time", f"{subject_of(certificate)}，当时有效"

    def signature(self, sent: SentRequest | None) -> tuple[str, str]:
        """The caller's own key signed what the gateway states, so that the gateway cannot have made it up."""
        digest, evidence = self._query.get("signature_digest"), self._receipt.evidence
        if digest is None:
            if evidence is not None:
                raise CheckError("there is a signature, and the record knows of none", "含有签名，而记录中没有签名")
            failure = CheckError if "signature" in self._keys.demands else NothingToCheckError
            raise failure(
                "the caller did not sign the request; the gateway vouches for it", "调用方未对请求签名，由网关担保"
            )
        if evidence is None:
            failure = CheckError if "signature" in self._keys.demands else NothingToCheckError
            raise failure(
                "the caller signed the request; this receipt does not show the signature (erased, or not for its holder)",
                "调用方已对请求签名；本回执不含该签名（已删除，或持有人无权查看）",
            )
        if evidence_digest(self._salt(), evidence.encode()) != digest:
            raise CheckError("it is not the signature of the record", "与记录中的签名不符")
        certificate = self._certificate(self._query.get("certificate", ""))
        bound = check_evidence(evidence.encode(), certificate.public_bytes(Encoding.DER))
        self._used.add(_fingerprint(certificate))
        check_statement(bound, self._query)
        asked = datetime.fromisoformat(str(self._query.get("asked_at"))).timestamp()
        if abs(asked - bound.created) > _SIGNED_SECONDS:
            raise CheckError("it was signed at another time", "签名时间与请求时间不符")
        if sent is not None:
            check_forwarded(bound, self._query, sent.target, sent.headers)
            check_recorded_body(bound, sent.body)
        return f"{subject_of(certificate)} signed the request", f"{subject_of(certificate)} 已对请求签名"

    def gateway(self) -> tuple[str, str]:
        """Who vouches for the query."""
        if self._answered_here():
            return "the gateway answered by itself; only the log vouches for that", "由网关自行应答，仅由日志佐证"
        if "query_seal" not in self._record:
            return "no seal is on record: refused, or cut off before it was carried", "没有签名：已拒绝，或在转发前中断"
        certificate = self._certificate(self._query.get("gateway", ""))
        self._check_path(certificate, self._query.get("asked_at"))
        self._check_seal(certificate, QUERY_CONTEXT, self._record["query_seal"], self._query)
        return f"{subject_of(certificate)} sealed the query", f"{subject_of(certificate)} 已对请求签名"

    def adapter(self) -> tuple[str, str]:
        """Who vouches for the answer."""
        if "answer" not in self._record:
            return "no answer is on record", "没有应答记录"
        certificate = self._certificate(self._answer.get("adapter", ""))
        self._check_path(certificate, self._answer.get("answered_at"))
        owner = str(self._query.get("service", "")).rpartition("/")[0]
        if not names(certificate, owner):
            raise CheckError("the certificate is not the service owner's", "证书不属于该服务的提供方")
        self._check_seal(certificate, ANSWER_CONTEXT, self._record["answer_seal"], self._answer)
        return f"{subject_of(certificate)} sealed the answer", f"{subject_of(certificate)} 已对应答签名"

    def binding(self) -> tuple[str, str]:
        """The answer is the answer to this query."""
        if "answer" not in self._record:
            return "no answer is on record", "没有应答记录"
        if self._answer.get("id") != self._query.get("id"):
            raise CheckError("the answer belongs to another exchange", "应答属于另一次交换")
        if self._answer.get("query_digest") != hashlib.sha256(canonical(self._query)).hexdigest():
            raise CheckError("the answer was given to another query", "应答针对的是另一个请求")
        return "the answer names this query", "应答与本请求对应"

    def _speaks_of_release(self) -> bool:
        return "release" in self._query or bool({"masked", "withheld"} & self._answer.keys())

    def release(self) -> tuple[str, str]:
        """What the grant released, and what of the answer was withheld or masked for it."""
        terms, masked, withheld = (
            _texts(statement.get(name, []))
            for statement, name in ((self._query, "release"), (self._answer, "masked"), (self._answer, "withheld"))
        )
        try:
            read_terms(terms)
        except ValueError as error:
            raise CheckError(f"the release terms cannot be read: {error}", f"释放条件无法读取：{error}") from error
        paths = [path for path in masked if not re.fullmatch(r"\+\d+", path)]
        if not all(any(term.startswith(f"{path}=") for term in terms) for path in paths):
            raise CheckError("items were masked that no term masks", "脱敏的字段不在释放条件之内")
        shown = ", ".join(terms)
        if "answer" not in self._record:
            return f"to be released: {shown}; no answer is on record", f"允许释放：{shown}；没有应答记录"
        return (
            f"released: {shown}; withheld: {', '.join(withheld) or 'nothing'}; masked: {', '.join(masked) or 'nothing'}",
            f"释放：{shown}；未释放：{'、'.join(withheld) or '无'}；已脱敏：{'、'.join(masked) or '无'}",
        )

    def certificates(self) -> tuple[str, str]:
        """Nothing is in the receipt that no check relied on."""
        if len(self._certificates) != len(self._receipt.certificates) or self._certificates.keys() - self._used:
            raise CheckError("a certificate was not needed by any check that succeeded", "含有未被任何检查使用的证书")
        return f"{len(self._certificates)} certificates, each needed", f"{len(self._certificates)} 份证书，均被使用"

    def request(self, sent: SentRequest) -> tuple[str, str]:
        """What the holder says was asked is what was asked."""
        block = b"".join([b"%b:%b\r\n" % pair for pair in sent.headers])
        head = hashlib.sha256(b"%b %b\r\n%b" % (sent.method.encode(), sent.target, block)).digest()
        digest = hashlib.sha256(self._salt() + head + hashlib.sha256(sent.body).digest()).hexdigest()
        if digest != self._query.get("request_digest"):
            raise CheckError("it is not the request of the record", "与记录中的请求不符")
        return "it is the request of the record", "与记录中的请求一致"

    def answer(self, body: bytes) -> tuple[str, str]:
        """What the holder says was answered is what was answered."""
        digest = hashlib.sha256(self._salt() + body).hexdigest()
        if digest != self._answer.get("body_digest") or len(body) != self._answer.get("body_size"):
            raise CheckError("it is not the answer of the record", "与记录中的应答不符")
        return f"its {len(body)} bytes are the answer of the record", f"{len(body)} 字节，与记录中的应答一致"

    def _salt(self) -> bytes:
        if not self._receipt.salt:
            raise CheckError("the salt was erased: contents can no longer be compared", "盐值已删除，无法再比对内容")
        return self._receipt.salt

    def _certificate(self, fingerprint: str) -> x509.Certificate:
        certificate = self._certificates.get(fingerprint)
        if certificate is None:
            raise CheckError("the certificate it names is not in the receipt", "回执中缺少所注明的证书")
        return certificate

    def _check_path(self, certificate: x509.Certificate, at: object) -> None:
        try:
            moment = datetime.fromisoformat(str(at))
            if moment.tzinfo is None:
                raise ValueError("no offset")
        except ValueError as error:
            raise CheckError("the time is not one", "时间格式不正确") from error
        path = check_path(certificate, self._receipt.certificates, self._keys.trust_anchors, moment)
        self._used |= {_fingerprint(one) for one in path}
        self._paths.append((path, moment))

    def _check_seal(
        self, certificate: x509.Certificate, context: bytes, seal: object, statement: dict[str, Any]
    ) -> None:
        key = certificate.public_key()
        if not isinstance(key, PublicKey):
            raise CheckError("the certificate's key is of another kind", "证书密钥类型不受支持")
        check_seal(key, context, decode_base64(str(seal)), canonical(statement))


def _fingerprint(certificate: x509.Certificate) -> str:
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def subject_of(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()


def _moment(at: int) -> str:
    """POSIX seconds as people read them; a witness may have signed any number."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, OSError, ValueError):
        return str(at)


def _texts(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise CheckError("the statements on what was released cannot be read", "释放内容的陈述无法读取")
    return value


def _same_number(text: object, number: int) -> bool:
    return isinstance(text, str) and text.lower().lstrip("0") == f"{number:x}"


def _parse(data: bytes) -> dict[str, Any]:
    """Parse an object that is in canonical form; raises ReceiptError."""
    try:
        return parse_canonical(data)
    except ValueError as error:
        raise ReceiptError(str(error)) from error

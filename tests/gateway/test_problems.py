"""How an error is told: in the caller's form and language, complete, and with nothing of ours in it."""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca_auth import EDGE_REFUSALS, Refusal
from ca_auth.edge.refusals import response_bytes
from exchange import AccessDeniedError, InvalidRequestError, MeshError, OverloadedError, UnauthenticatedError
from gateway.problems import describe, edge_error, language_of, problem_type, render

EXCHANGE = "0197f0c1-2a3b-7c4d-8e5f-0123456789ab"


def tree(error: type[MeshError] = MeshError) -> list[type[MeshError]]:
    return [error, *(found for child in error.__subclasses__() for found in tree(child))]


def one_of(kind: type[MeshError]) -> MeshError:
    return kind(problem="It was wrong.", problem_zh="有误。") if "problem" in kind.detail["en"] else kind()


EVERY_ERROR = sorted({kind for kind in tree() if kind.__module__ == "exchange.errors"}, key=lambda kind: kind.code)


def rendered(error: MeshError, **how: Any) -> tuple[dict[str, str], bytes]:
    headers, body = render(error, exchange_id=EXCHANGE, **how)
    assert all(name == name.lower() for name, _ in headers)
    names = [name.decode() for name, _ in headers]
    assert len(set(names)) == len(names)
    return {name.decode(): value.decode("ascii") for name, value in headers}, body


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("kind", EVERY_ERROR, ids=lambda kind: kind.code)
def test_every_error_is_a_complete_problem_in_both_languages(kind: type[MeshError], language: str) -> None:
    headers, body = rendered(one_of(kind), accept_language=language.encode())
    problem = json.loads(body)
    assert list(problem) == ["type", "title", "status", "detail", "instance", "rule", "next", "source"]
    assert all(problem.values())
    assert problem["type"] == f"/problems/{kind.code}"
    assert problem["status"] == kind.status
    assert problem["instance"] == f"urn:uuid:{EXCHANGE}"
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", problem["rule"])
    assert problem["source"] in ("gateway", "bus", "adapter", "backend")
    for text in (problem["title"], problem["detail"], problem["next"]):
        assert "{" not in text
    assert bool(re.search(r"[\u4e00-\u9fff]", problem["title"])) == (language == "zh")
    assert bool(re.search(r"[\u4e00-\u9fff]", problem["next"])) == (language == "zh")
    assert headers["content-type"] == "application/problem+json"
    assert headers["content-language"] == {"en": "en", "zh": "zh-CN"}[language]
    assert headers["x-road-error"] == kind.xroad_code
    assert headers["x-road-request-id"] == EXCHANGE
    assert headers["cache-control"] == "no-store"
    assert headers["content-length"] == str(len(body))
    assert ("retry-after" in headers) == (kind.retry_after is not None)
    assert ("www-authenticate" in headers) == (kind.status == 401)


@pytest.mark.parametrize("kind", EVERY_ERROR, ids=lambda kind: kind.code)
def test_an_error_code_is_one_of_x_roads_and_says_where_it_arose(kind: type[MeshError]) -> None:
    assert re.fullmatch(r"server\.(clientproxy|serverproxy)\.[a-z_]+", kind.xroad_code)


def test_codes_are_distinct() -> None:
    codes = [kind.code for kind in EVERY_ERROR]
    # BusLostError is a bus that went away while the answer was awaited: another rule, the same problem type.
    assert len(set(codes)) == len(codes)


def test_the_page_behind_a_type_says_the_same_as_the_problem() -> None:
    page = describe(OverloadedError)
    problem = json.loads(rendered(OverloadedError())[1])
    assert page["type"] == problem["type"] == problem_type("overloaded")
    assert page["title"] == {"en": problem["title"], "zh": OverloadedError.title["zh"]}
    assert (page["status"], page["source"]) == (problem["status"], problem["source"])


JSON, XML, TEXT = "application/problem+json", "application/xml;charset=utf-8", "text/xml;charset=utf-8"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/json", JSON),
        ("application/problem+json", JSON),
        ("application/*", JSON),
        ("image/png", JSON),
        ("text/plain", JSON),
        ("text/html", JSON),
        ("application/xhtml+xml", JSON),
        ("application/soap+xml", JSON),
        ("nonsense", JSON),
        (",,;;", JSON),
        ("application/xml", XML),
        ("APPLICATION/XML", XML),
        ("text/xml", TEXT),
        ("text/*", TEXT),
        ("application/xml;q=0.1", XML),
        ("text/xml; charset=gbk", TEXT),
        # The first that decides wins; quality values are not weighed.
        ("application/json;q=0.1, application/xml", JSON),
        ("application/xml;q=0.1, application/json", XML),
        ("*/*, application/xml", JSON),
        ("application/*, text/xml", JSON),
        ("text/xml, application/xml", TEXT),
        ("text/*, application/xml", TEXT),
        # What decides nothing is passed over: a browser's own list ends at the XML it names.
        ("image/png, application/xml", XML),
        ("text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8", XML),
        ("text/html, */*", JSON),
        ("  text/xml  ,x", TEXT),
    ],
)
def test_the_body_has_the_form_the_caller_accepts(accept: str, content_type: str) -> None:
    headers, body = rendered(InvalidRequestError(problem="a < b & c"), accept=accept.encode())
    assert headers["content-type"] == content_type
    assert headers["x-road-error"] == "server.clientproxy.invalid_request"
    if content_type == JSON:
        assert json.loads(body)["detail"] == "a < b & c"
        return
    error = ElementTree.fromstring(body)
    assert error.tag == "error"
    assert [child.tag for child in error] == ["type", "message", "detail"]
    assert error.findtext("type") == headers["x-road-error"]
    assert (error.findtext("message") or "").startswith("a < b & c")
    assert error.findtext("detail") == EXCHANGE, "as with X-Road, what finds the exchange in the log"


@pytest.mark.parametrize(
    ("accept_language", "language"),
    [
        ("", "en"),
        ("zh", "zh"),
        ("zh-CN", "zh"),
        ("ZH-Hant-TW", "zh"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-US,zh;q=0.9", "en"),
        ("fr, zh;q=0.5", "zh"),
        ("fr, de", "en"),
        ("*", "en"),
        (",;=", "en"),
    ],
)
def test_the_language_is_the_first_of_ours_that_the_caller_names(accept_language: str, language: str) -> None:
    assert language_of(accept_language.encode()) == language


@given(st.text(), st.sampled_from([b"application/xml", b"application/json"]), st.sampled_from([b"zh", b"en"]))
def test_whatever_a_caller_sent_the_body_that_quotes_it_is_well_formed(text: str, accept: bytes, zh: bytes) -> None:
    error = AccessDeniedError(problem=text.encode("utf-8", "ignore").decode(), problem_zh="有误：" + text[:3].strip())
    headers, body = rendered(error, accept=accept, accept_language=zh)
    assert int(headers["content-length"]) == len(body)
    if b"xml" in accept:
        assert ElementTree.fromstring(body).findtext("type") == error.xroad_code
    else:
        assert json.loads(body)["status"] == 403


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_no_accept_header_breaks_the_telling(accept: bytes, accept_language: bytes) -> None:
    headers, body = rendered(UnauthenticatedError(problem="x"), accept=accept, accept_language=accept_language)
    assert headers["content-language"] in ("en", "zh-CN")
    assert body


def test_templates_in_a_callers_text_are_not_filled() -> None:
    """`{limit}` in what a caller sent stays what it is: texts are put into templates, never read as one."""
    problem = json.loads(rendered(AccessDeniedError(problem="{rule} {0} {x.__class__}", problem_zh=""))[1])
    assert problem["detail"] == "{rule} {0} {x.__class__}"


def test_without_an_exchange_there_is_no_instance() -> None:
    headers, body = render(MeshError(), exchange_id="")
    assert "instance" not in json.loads(body)
    assert b"x-road-request-id" not in dict(headers)


@pytest.mark.parametrize("refusal", EDGE_REFUSALS, ids=lambda refusal: refusal.rule)
def test_what_the_edge_tells_is_recorded_under_the_same_code_and_explained(refusal: Refusal) -> None:
    """The edge writes its few refusals itself; they must not be a second vocabulary."""
    error = edge_error(refusal.rule, refusal.status)
    told = json.loads(response_of(refusal))
    assert (told["type"], told["status"]) == (problem_type(error.code), error.status)
    assert (told["rule"], told["source"]) == (error.rule, error.source)
    assert refusal.xroad_code == error.xroad_code
    assert any(kind.code == error.code for kind in EVERY_ERROR), "there is a page about it"


def response_of(refusal: Refusal) -> bytes:
    return response_bytes(refusal).partition(b"\r\n\r\n")[2]

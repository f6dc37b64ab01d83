"""What is told about a body that cannot be taken: which member, in both languages, and none of its values."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator
from starlette.requests import Request

from exchange import InvalidRequestError, MeshError, PayloadTooLargeError, UnprocessableError
from gateway.api.bodies import (
    Body,
    UnsupportedMediaTypeError,
    Why,
    parse_model,
    read_body,
    read_bytes,
    why_of,
)
from gateway.api.fields import Begins, Ends, Line, Subsystem, complaint
from gateway.api.strict_json import parse_json, pointer


class Item(Body):
    name: Line
    kind: Literal["text", "number"] = "text"
    size: int = Field(0, ge=0, le=10)


class Form(Why):
    client: Subsystem | None = None
    items: tuple[Item, ...] = Field((), max_length=2)
    masks: dict[str, int] = {}
    valid_from: Begins | None = None
    valid_to: Ends | None = None
    flag: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> Form:
        if self.valid_from and self.valid_to and self.valid_from >= self.valid_to:
            raise complaint("order", "is before valid_from", "早于 valid_from", pointer="/valid_to")
        return self


def request(body: bytes, headers: dict[str, str]) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": pairs, "query_string": b"", "path": "/"}, receive)


@pytest.mark.parametrize(
    ("body", "where", "told"),
    [
        ("{}", "/why", "/why is missing"),
        ("[]", "", "The body must be an object"),
        ("null", "", "The body must be an object"),
        ('{"why":""}', "/why", "must not be empty"),
        ('{"why":" x"}', "/why", "must be one line"),
        ('{"why":"a\\nb"}', "/why", "must be one line"),
        ('{"why":7}', "/why", "must be a text"),
        ('{"why":"x","wy":1}', "/wy", "/wy is not a member of this body"),
        ('{"why":"x","a/b~c":1}', "/a~1b~0c", "is not a member"),
        ('{"why":"x","client":"CN/GOV"}', "/client", "is not instance/class/member/subsystem"),
        ('{"why":"x","items":{}}', "/items", "must be a list"),
        ('{"why":"x","items":[{"name":"a"},{}]}', "/items/1/name", "is missing"),
        ('{"why":"x","items":[{"name":"a","kind":"x"}]}', "/items/0/kind", "must be 'text' or 'number'"),
        ('{"why":"x","items":[{"name":"a","size":11}]}', "/items/0/size", "must be at most 10"),
        ('{"why":"x","items":[{"name":"a","size":1.5}]}', "/items/0/size", "must be a whole number"),
        ('{"why":"x","items":[{"name":"a","size":"1"}]}', "/items/0/size", "must be a whole number"),
        ('{"why":"x","items":[{"name":"a"},{"name":"a"},{"name":"a"}]}', "/items", "must have at most 2 entries"),
        ('{"why":"x","masks":{"a/b":"c"}}', "/masks/a~1b", "must be a whole number"),
        ('{"why":"x","flag":1}', "/flag", "must be true or false"),
        ('{"why":"x","valid_from":"tomorrow"}', "/valid_from", "is neither a date"),
        ('{"why":"x","valid_from":20270101}', "/valid_from", "is neither a date"),
        ('{"why":"x","valid_from":"2027-02-30"}', "/valid_from", "is neither a date"),
        ('{"why":"x","valid_from":"2027-02-03T10:00:00"}', "/valid_from", "is neither a date"),
        ('{"why":"x","valid_to":"20270203"}', "/valid_to", "is neither a date"),
        ('{"why":"x","valid_from":"2027-02-03","valid_to":"2027-02-02"}', "/valid_to", "is before valid_from"),
        ('{"why":"x","why":"y"}', "/why", "is given more than once"),
        ('{"why":"x","items":[{"name":"a","name":"b"}]}', "/items/0/name", "is given more than once"),
        ('{"why":"\\u0000"}', "/why", "holds a character"),
        ('{"why":"x","masks":{"\\ud800":1}}', "/masks", "holds a character"),
        ("[" * 40 + "]" * 40, "/0" * 33, "is deeper than 32 levels"),
        ("[" * 100_000 + "]" * 100_000, "", "is deeper than 32 levels"),
    ],
)
def test_a_faulty_member_is_named_by_its_pointer(body: str, where: str, told: str) -> None:
    with pytest.raises(UnprocessableError) as caught:
        parse_model(body.encode(), Form)
    assert caught.value.pointer == where
    assert told in str(caught.value)
    chinese = caught.value.detail_in("zh")
    assert chinese.startswith(where or "请求体")
    assert any("\u4e00" <= each <= "\u9fff" for each in chinese)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "line 1, column 1"),
        (b'{\n "why": }', "line 2, column 9"),
        (b'{"why":"x"} {}', "line 1, column 13"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"why":"\xff"}', "not UTF-8: byte 8"),
        ('{"why":"x"}'.encode("utf-16"), "not UTF-8"),
        (b'{"why":NaN}', "number that JSON does not have"),
        (b'{"why":-Infinity}', "number that JSON does not have"),
        (b'{"why":1e999}', "number that JSON does not have"),
        (b'{"why":' + b"9" * 5000 + b"}", "too long"),
    ],
)
def test_what_is_not_json_is_named_by_line_and_column(body: bytes, told: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_model(body, Form)
    assert (caught.value.rule, caught.value.pointer) == ("json", "")
    assert told in str(caught.value)


def test_a_name_that_fills_pages_is_not_repeated() -> None:
    with pytest.raises(UnprocessableError) as caught:
        parse_model(b'{"why":"x","masks":{"' + b"a" * 100_000 + b'":"b"}}', Form)
    assert caught.value.pointer == "/masks"
    assert len(str(caught.value)) < 500


def test_a_good_body_is_read_as_its_model() -> None:
    body = '{"why":"批复〔2026〕7号","items":[{"name":"a"}],"valid_from":"2027-01-01","valid_to":"2027-01-01"}'
    found = parse_model(body.encode(), Form)
    assert found.items == (Item(name="a"),)
    assert found.valid_from == datetime(2026, 12, 31, 16, tzinfo=UTC)
    assert found.valid_to == datetime(2027, 1, 1, 16, tzinfo=UTC)


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_bytes_get_further_than_a_refusal(body: bytes) -> None:
    with pytest.raises(MeshError) as caught:
        parse_model(body, Form)
    assert caught.value.status in (400, 422)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from([*Form.model_fields, "other"]), _VALUES, max_size=3))
def test_a_pointer_leads_to_what_is_there_or_missing(document: dict[str, Any]) -> None:
    """Each pointer is followed in the document: everything but its last step must be there."""
    try:
        parse_model(json.dumps(document).encode(), Form)
    except UnprocessableError as error:
        here: Any = document
        steps = [step.replace("~1", "/").replace("~0", "~") for step in error.pointer.split("/")[1:]]
        for step in steps[:-1]:
            here = here[int(step)] if isinstance(here, list) else here[step]
        if steps and "is missing" not in str(error):
            assert (int(steps[-1]) < len(here)) if isinstance(here, list) else (steps[-1] in here)


def test_pointers_escape_as_rfc_6901_says() -> None:
    assert pointer(("a/b", "m~n", 0, "")) == "/a~1b/m~0n/0/"


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, "must be application/json"),
        ({"Content-Type": "text/plain"}, "must be application/json"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "must be application/json"),
        ({"Content-Type": "application/json; charset=gbk"}, "in UTF-8"),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, "must not be compressed"),
    ],
)
async def test_another_content_type_is_refused(headers: dict[str, str], told: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError) as caught:
        await read_body(request(b'{"why":"x"}', headers), Form)
    assert caught.value.status == 415
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", 'application/json;charset="UTF-8"']
)
async def test_json_is_json_however_it_is_written(kind: str) -> None:
    assert (await read_body(request(b'{"why":"x"}', {"Content-Type": kind}), Form)).why == "x"


async def test_a_body_beyond_the_limit_is_refused_with_and_without_its_length() -> None:
    body = b'{"why":"' + b"x" * 200 + b'"}'
    for headers in ({"Content-Length": str(len(body))}, {}):
        with pytest.raises(PayloadTooLargeError):
            await read_body(request(body, {"Content-Type": "application/json", **headers}), Form, limit=200)
    kind, found = await read_bytes(request(b"PK", {"Content-Type": "text/csv"}), ("text/csv",), limit=2)
    assert (kind, found) == ("text/csv", b"PK")


@pytest.mark.parametrize("value", [None, "", "%FF", "a%0Ab", "%20a", "x" * 501])
def test_a_reason_in_a_header_is_checked_like_one_in_a_body(value: str | None) -> None:
    with pytest.raises(UnprocessableError) as caught:
        why_of(request(b"", {} if value is None else {"Datong-Why": value}))
    assert (caught.value.rule, caught.value.pointer) == ("why", "/why")


def test_a_reason_in_a_header_is_percent_encoded_utf_8() -> None:
    assert why_of(request(b"", {"Datong-Why": "%E6%89%B9%E5%A4%8D 7"})) == "批复 7"
    assert why_of(request(b"", {"Datong-Why": "change 7"})) == "change 7"


def test_a_document_is_what_json_says_it_is() -> None:
    assert parse_json(b'{"a":[1,2.5,true,null,"\\ud83d\\ude00"]}') == {"a": [1, 2.5, True, None, "😀"]}

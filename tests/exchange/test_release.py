"""Release terms: what they let out, that they never let out more, and what is told of the rest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange import (
    MASKS,
    AnswerStatement,
    Headers,
    Released,
    ReleaseError,
    Terms,
    apply_terms,
    apply_terms_aside,
    check_release,
    item_keys,
    item_path,
    read_terms,
    release_terms,
    statement_bytes,
    told_headers,
)
from exchange.messages.envelope import MAX_STATEMENT
from exchange.release.bodies import LARGE, MAX_DEPTH, MAX_TOLD, check_answer
from exchange.release.terms import MAX_TERMS, MAX_TERMS_BYTES

KEY = st.sampled_from(["a", "b", "c", "", ".", "a.b", "x=y", "*", "\\", "\\e", "e", "姓名", '"', "+1", "{", "[]"])
KEYS = st.lists(KEY, min_size=1, max_size=4).map(tuple)
NUMBER = "450102199001011234"


def terms(*entries: str) -> Terms:
    return read_terms(sorted(entries))


def released(body: str | bytes, *entries: str, status: int = 200) -> Released:
    """What is released, after a look at what holds of everything that is."""
    given_terms = terms(*entries)
    answer = apply_terms(given_terms, body.encode() if isinstance(body, str) else body, status)
    check_release(given_terms, answer.body, status)
    return answer


def left(body: str, *entries: str) -> str:
    return released(body, *entries).body.decode()


# -- item paths and terms


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        (["name"], "name"),
        (["person", "姓名"], "person.姓名"),
        (["a.b", "c=d", "*", "\\"], r"a\.b.c\=d.\*.\\"),
        ([""], r"\e"),
        (["a", "", "b"], r"a.\e.b"),
        (["\\e"], r"\\e"),
        (["with space", "a-b_c", "0"], "with space.a-b_c.0"),
    ],
)
def test_a_path_is_written_in_one_way_and_read_back(keys: list[str], path: str) -> None:
    assert item_path(keys) == path
    assert item_keys(path) == tuple(keys)


@given(keys=st.lists(KEY | st.text(max_size=5).filter(str.isprintable), min_size=1, max_size=5))
def test_whatever_keys_there_are_their_path_leads_back_to_them(keys: list[str]) -> None:
    assert item_keys(item_path(keys)) == tuple(keys)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "empty part"),
        (".", "empty part"),
        ("a.", "empty part"),
        (".a", "empty part"),
        ("a..b", "empty part"),
        ("*", r"in a key write `\\\*`"),
        ("a.*", r"at character 3: in a key write `\\\*`"),
        ("a=b", r"write `\\=`"),
        ("\\", "escapes only"),
        (r"a\b", "escapes only"),
        (r"a\e", "escapes only"),
        (r"\ea", r"character 3: `\\e` is a key of its own"),
        ("a\nb", "cannot be shown"),
        ("a\ud800", "cannot be shown"),
        (".".join("k" * 65), "more than 64 keys"),
    ],
)
def test_what_is_no_path_is_refused_with_the_reason(path: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        item_keys(path)


@given(path=st.text(st.sampled_from("ae.=*\\ 姓"), max_size=8))
def test_no_two_paths_lead_to_the_same_item(path: str) -> None:
    with suppress(ValueError):
        assert item_path(item_keys(path)) == path


@pytest.mark.parametrize(
    ("items", "masks", "entries"),
    [
        ([], {}, ()),
        (["name"], {}, ("name",)),
        (["b", "a"], {}, ("a", "b")),
        ([], {"name": "name"}, ("*", "name=name")),
        (["name", "id_number"], {"id_number": "number"}, ("id_number=number", "name")),
        (["person"], {"person.name": "name"}, ("person", "person.name=name")),
        ([r"a\.b"], {r"a\.b.c": "full"}, (r"a\.b", r"a\.b.c=full")),
        (["name", "name"], {}, ("name",)),
    ],
)
def test_the_terms_of_a_grant_are_its_items_and_masks_sorted(
    items: list[str], masks: dict[str, str], entries: tuple[str, ...]
) -> None:
    assert release_terms(items, masks) == entries


@pytest.mark.parametrize(
    ("items", "masks", "why"),
    [
        (["name"], {"phone": "phone"}, "not among the items"),
        (["person.name"], {"person": "full"}, "not among the items"),
        (["ab"], {"abc": "full"}, "not among the items"),
        (["name"], {"name": "secret"}, "names no mask"),
        ([], {"name": ""}, "names no mask"),
        (["*"], {}, "cannot be read"),
        ([""], {}, "empty part"),
        ([f"item{number}" for number in range(MAX_TERMS + 1)], {}, "more than"),
        (["长" * 100 + str(number) for number in range(30)], {}, f"{MAX_TERMS_BYTES} bytes"),
    ],
)
def test_a_grant_that_contradicts_itself_has_no_terms(items: list[str], masks: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        release_terms(items, masks)


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([], "no release terms"),
        (["b", "a"], "sorted"),
        (["a", "a"], "each once"),
        (["a", "a=full"], "two release terms for 'a'"),
        (["a=full", "a=name"], "two release terms for 'a'"),
        (["*=full"], "cannot be read"),
        (["a=other"], "names no mask"),
        (["a=full=name"], "names no mask"),
        (["**"], "cannot be read"),
        (["a="], "names no mask"),
        (["=full"], "empty part"),
        (["a\x00"], "cannot be shown"),
    ],
)
def test_terms_that_are_none_are_refused_with_the_reason(entries: list[str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_terms(entries)


# -- what is released


PERSON = (
    '{"name": "张三丰", "id_number": "450102199001011234", "address": {"city": "南宁市", "street": "民族大道100号"},'
    ' "phones": ["13812345678", null], "new_field": [1]}'
)


def test_what_no_term_names_is_withheld() -> None:
    answer = released(PERSON, "name", "address.city")
    assert answer.body.decode() == '{"name":"张三丰","address":{"city":"南宁市"}}'
    assert answer == Released(answer.body, ("address.street", "id_number", "new_field", "phones"), ())


def test_a_masked_item_is_released_in_part() -> None:
    answer = released(PERSON, "name=name", "phones=phone", "address")
    assert answer.body.decode() == (
        '{"name":"张**","address":{"city": "南宁市", "street": "民族大道100号"},"phones":["138****5678",null]}'
    )
    assert (answer.withheld, answer.masked) == (("id_number", "new_field"), ("name", "phones"))


def test_with_everything_released_only_masked_items_change() -> None:
    answer = released(PERSON, "*", "id_number=number", "address.street=full")
    assert json.loads(answer.body) == json.loads(PERSON) | {
        "id_number": "450************234",
        "address": {"city": "南宁市", "street": "*" * len("民族大道100号")},
    }
    assert (answer.withheld, answer.masked) == ((), ("address.street", "id_number"))


def test_paths_go_on_in_every_element_of_a_list() -> None:
    body = '[{"items":[[{"a":1,"b":2}],{"a":3}]},{"items":{"a":4,"c":5}}]'
    answer = released(body, "items.a")
    assert answer.body == b'[{"items":[[{"a":1}],{"a":3}]},{"items":{"a":4}}]'
    assert answer.withheld == ("items.b", "items.c")


def test_what_stands_in_place_of_an_object_is_withheld_but_null_is_not() -> None:
    answer = released('{"a":"张三","c":{"b":1}}', "a.b", "c.b")
    assert (answer.body, answer.withheld) == (b'{"c":{"b":1}}', ("a",))
    assert left('{"a":null}', "a.b") == '{"a":null}'
    answer = released('{"a":["张三",null,{"b":1},5,[true]]}', "a.b")
    assert (answer.body, answer.withheld) == (b'{"a":[null,{"b":1},[]]}', ("a",))


@pytest.mark.parametrize("body", ['"张三"', "5", "true", ' "x" '])
def test_a_body_that_is_no_object_is_withheld_unless_everything_is_released(body: str) -> None:
    assert released(body, "a") == Released(b"null", ("*",), ())
    assert left(body, "*", "a=full") == body.strip()


def test_an_empty_object_stays_where_all_of_it_was_withheld() -> None:
    assert left('{"a":{"b":1},"c":[{"d":1},{}]}', "a.x", "c.x") == '{"a":{},"c":[{},{}]}'


@pytest.mark.parametrize(
    "value",
    [
        *(
            "1.10",
            "1e400",
            "-0",
            "-0.0",
            "1E5",
            "0.1e-7",
            "123456789012345678901234567890",
            str(2**64),
            str(-(2**63) - 1),
        ),
        *('"\\u5f20\\/"', '"\\ud83d\\ude00"', "[1,  2]", '{"x" : 1,"x":2}', '"\u2028"', "[[[]]]"),
    ],
)
def test_what_is_released_passes_byte_for_byte(value: str) -> None:
    assert left(f'{{"a": {value} , "b":1}}', "a") == f'{{"a":{value}}}'
    assert left(f'[{{"n":{{"a":{value}}}}}]', "n.a") == f'[{{"n":{{"a":{value}}}}}]'
    assert left(f'{{"a":{value},"b":"x"}}', "*", "b=full") == f'{{"a":{value},"b":"*"}}'


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        (f'"{NUMBER}"', '"450************234"'),
        (NUMBER, '"450************234"'),
        ("-450102199001011234", '"-45*************234"'),
        ("123456789012345678901234567890", '"123************************890"'),
        ("7", '"*"'),
        ("null", "null"),
        *((other, "null") for other in ("true", "false", "1.0", "19900101e3", "-0.5", "1E5")),
        ('""', '""'),
        ('"\\ud83d\\ude00"', '"*"'),
        (
            f'{{"deep":[{NUMBER},{{"x":null,"y":2.5}}],"t":"short"}}',
            '{"deep":["450************234",{"x":null,"y":null}],"t":"*****"}',
        ),
        ("[]", "[]"),
        ("{}", "{}"),
    ],
)
def test_a_mask_covers_every_kind_of_value(value: str, masked: str) -> None:
    answer = released(f'{{"a":{value}}}', "a=number")
    assert answer.body.decode() == f'{{"a":{masked}}}'
    assert answer.masked == (() if value in ("null", "[]", "{}") else ("a",))


def test_the_nearest_mask_counts_and_nothing_lifts_one() -> None:
    body = '{"p":{"name":"张三丰","born":"1990-01-01","more":{"x":"secret","name":"李四"}}}'
    answer = released(body, "p=full", "p.name=name", "p.more.x")
    assert json.loads(answer.body) == {
        "p": {"name": "张**", "born": "*" * 10, "more": {"x": "******", "name": "**"}},
    }
    assert answer.masked == ("p", "p.name")


def test_of_a_key_that_comes_twice_the_last_one_counts() -> None:
    assert left('{"a":{"x":1,"y":2},"a":{"y":3,"x":4}}', "a.x") == '{"a":{"x":4}}'
    assert left('{"name":"张三","name":"李四"}', "*", "name=name") == '{"name":"李*"}'
    with pytest.raises(ReleaseError):
        check_release(terms("*", "name=name"), '{"name":"张三","name":"李*"}'.encode())


def test_a_key_is_compared_as_it_reads_and_not_as_it_is_spelled() -> None:
    assert left('{"\\u59d3\\u540d":"张三","na\\u006de":1}', "姓名=name", "name") == '{"姓名":"张*","name":1}'


def test_a_byte_order_mark_is_no_reason_to_refuse() -> None:
    assert left("\ufeff" + '{"a":1,"b":2}', "a") == '{"a":1}'


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"a":[[{"a":'])
def test_a_body_is_as_deep_as_may_be_or_is_refused(opening: str) -> None:
    each = sum(map(opening.count, "[{"))
    closing = "".join({"[": "]", "{": "}"}[sign] for sign in reversed(opening) if sign in "[{")
    most = MAX_DEPTH // each
    for entries in (("a",), ("*", "a=full"), ("b", "a.b")):
        assert apply_terms(terms(*entries), (opening * most + "1" + closing * most).encode())
        for depth in (MAX_DEPTH // each + 1, 100_000):
            with pytest.raises(ReleaseError, match="nested deeper than 64"):
                apply_terms(terms(*entries), (opening * depth + "1" + closing * depth).encode())


def test_brackets_in_texts_are_no_depth() -> None:
    body = json.dumps({"a": ["[" * 500, '"' * 100 + "{[" * 90, "\\" * 51 + '"[' * 80]} | {'"[\\' * 80: 1})
    assert json.loads(left(body, "*", "x=full")) == json.loads(body)
    records = json.dumps([{"a": {"b": []}} for _ in range(5000)])
    assert json.loads(left(records, "a")) == json.loads(records)


@pytest.mark.parametrize(
    "body",
    [
        *(
            b" ",
            b"{",
            b'{"a":1',
            b'{"a":1}x',
            b"{'a':1}",
            b'{"a":NaN}',
            b'{"a":01}',
            b"<html></html>",
            b"\x1f\x8b\x08\0",
        ),
        *(
            b'{"a":"\xff"}',
            b'{"a":"\xed\xa0\x80"}',
            b'{"\\ud800":1}',
            '{"姓名":1}'.encode("gbk"),
            '{"a":1}'.encode("utf-16"),
        ),
        *(b'{"a":"\\ud800"}', b'{"a":"\n"}', b'{"a":1}\n{"a":2}', b"[" * 70, b'"' + b"[" * 5000),
    ],
)
def test_a_success_that_cannot_be_judged_is_not_released(body: bytes) -> None:
    for entries in (("a",), ("*", "a=full"), ("*", "b=full"), ("b",)):
        with pytest.raises(ReleaseError) as refused:
            apply_terms(terms(*entries), body)
        assert refused.value.__cause__ is None or "UnicodeDecodeError" not in repr(refused.value.__cause__)


def test_no_body_is_nothing_to_withhold() -> None:
    for status in (200, 204, 304, 404):
        assert released(b"", "a", status=status) == Released(b"", (), ())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEY, inner, max_size=5),
    max_leaves=25,
)


@st.composite
def entries_of_terms(draw: st.DrawFn) -> list[str]:
    named = {item_path(keys) for keys in draw(st.lists(KEYS, min_size=1, max_size=5))}
    found = [path + draw(st.sampled_from(["", "", *(f"={mask}" for mask in MASKS)])) for path in sorted(named)]
    return sorted([*found, "*"] if draw(st.booleans()) else found)


def expected(value: Any, entries: Sequence[str], at: tuple[str, ...] = ()) -> Any:
    """What the rules say is left of a value: in the plainest way, from the terms as they are written. ... if nothing."""
    granted, mask, goes_on = "*" in entries, "", False
    for entry in sorted(entries, key=len):
        if entry == "*":
            continue
        path, name = next(
            ((entry[: -len(each) - 1], each) for each in MASKS if entry.endswith(f"={each}")), (entry, "")
        )
        keys = item_keys(path)
        granted |= at[: len(keys)] == keys
        goes_on |= keys[: len(at)] == at and keys != at
        if name and at[: len(keys)] == keys and len(keys) >= len(item_keys(mask.rpartition("=")[0]) if mask else ()):
            mask = entry
    if isinstance(value, dict) and (goes_on or granted):
        kept = {key: expected(each, entries, (*at, key)) for key, each in value.items()}
        return {key: each for key, each in kept.items() if each is not ...}
    if isinstance(value, list) and (goes_on or granted):
        return [each for each in (expected(each, entries, at) for each in value) if each is not ...]
    if not granted:
        return None if value is None and goes_on else ...
    if not mask or value is None:
        return value
    if isinstance(value, bool | float):
        return None
    return MASKS[mask.rpartition("=")[2]].of(str(value))


@given(value=JSON, entries=entries_of_terms(), ascii_only=st.booleans())
def test_what_is_released_is_what_the_rules_say(value: Any, entries: list[str], ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only)
    answer = released(body, *entries)
    should = expected(value, entries)
    assert json.loads(answer.body) == (None if should is ... else should)
    if not any("=" in entry for entry in entries) and not answer.withheld:
        assert json.loads(answer.body) == value


@given(value=JSON, entries=entries_of_terms())
def test_a_gateway_finds_out_what_was_not_to_leave(value: Any, entries: list[str]) -> None:
    """Whatever of the whole body the terms would have changed, the body as it was does not pass."""
    given_terms = terms(*entries)
    whole = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    answer = apply_terms(given_terms, whole)
    if json.loads(answer.body) == value:
        return
    with pytest.raises(ReleaseError):
        check_release(given_terms, whole)


@given(body=st.binary(max_size=60) | st.text(st.sampled_from('{}[]",:\\a1 .e-ntf'), max_size=30).map(str.encode))
@pytest.mark.parametrize("status", [200, 404])
def test_any_bytes_are_released_within_the_terms_or_refused(body: bytes, status: int) -> None:
    with suppress(ReleaseError):
        released(body, "a.b=full", "e", status=status)


# -- answers that are not a success


def test_of_a_problem_only_its_own_members_pass() -> None:
    body = (
        '{"type":"about:blank","title":"未找到","status":404,"detail":null,"instance":"/x","code":1.50,"message":"无",'
        f'"error":{{"name":"张三"}},"data":{{"id_number":"{NUMBER}"}},"name":"张三"}}'
    )
    answer = released(body, "*", "name=name", status=404)
    assert answer.body.decode() == (
        '{"type":"about:blank","title":"未找到","status":404,"detail":null,"instance":"/x","code":1.50,"message":"无"}'
    )
    assert (answer.withheld, answer.masked) == (("data", "error", "name"), ())


@pytest.mark.parametrize("status", [301, 400, 404, 500, 599])
@pytest.mark.parametrize(
    "body", [b"<html>", b'["x"]', b'"x"', b"\xff", b"{", b" ", b'{"detail":' + b"[" * 9999, b"5", b"null"]
)
def test_a_problem_that_is_no_object_is_withheld_wholly(status: int, body: bytes) -> None:
    assert released(body, "a", status=status) == Released(b"", ("*",), ())


# -- what is told


def test_keys_that_may_be_data_are_not_told() -> None:
    """A statement lasts for years, and erasing its salt must leave nothing of a person in it."""
    body = {
        NUMBER: 1,
        "x" * 41: 1,
        "a\nb": 1,
        "+86": 1,
        "1990-01": 1,
        "phone2": 1,
        "姓名": 1,
        "": 1,
        "a.b": 1,
        "２００３１": 1,
    }
    assert released(json.dumps(body), "a").withheld == (r"?", r"\e", r"a\.b", "phone2", "姓名")
    assert released(json.dumps({"people": {NUMBER: {"a": 1}}}), "people.a").withheld == ("people.?",)
    assert released(json.dumps(body), "a", status=500).withheld == (r"?", r"\e", r"a\.b", "phone2", "姓名")


def test_the_list_of_what_was_withheld_is_bounded() -> None:
    every = sorted(f"field{letter}{number}" for letter in "abcdefgh" for number in range(100))
    told = released(json.dumps(dict.fromkeys(every, 1)), "a").withheld
    assert told == (*every[:MAX_TOLD], f"+{len(every) - MAX_TOLD}")
    long = sorted(f"{chr(0x4E00 + number) * 40}" for number in range(40))
    told = released(json.dumps(dict.fromkeys(long, 1)), "a").withheld
    assert told == (*long[:8], "+32")


def test_a_statement_stays_far_below_what_it_may_be() -> None:
    long = [chr(0x4E00 + number) * 40 for number in range(40)]
    masks = dict.fromkeys(long, "full")
    told = apply_terms(read_terms(release_terms([], masks)), json.dumps(dict.fromkeys(long, "x")).encode()).masked
    statement = AnswerStatement(
        adapter="0" * 64,
        answered_at="2026-01-01T00:00:00.000Z",
        body_digest="0" * 64,
        body_size=2**52,
        error="",
        headers_digest="0" * 64,
        id="0" * 36,
        masked=told,
        query_digest="0" * 64,
        status=200,
        withheld=told,
    )
    assert len(statement_bytes(statement)) < MAX_STATEMENT / 4
    assert all(len(value) < 4096 for _, value in told_headers(told, told))


def test_what_was_withheld_is_told_in_headers_as_identifiers_are_written() -> None:
    assert told_headers(("*",), ()) == [(b"datong-withheld", b"*")]
    assert told_headers(("a,b", "姓名", r"x\.y", "?", "+3"), ("name",)) == [
        (b"datong-masked", b"name"),
        (b"datong-withheld", b"a%2Cb,%E5%A7%93%E5%90%8D,x%5C.y,?,+3"),
    ]


@pytest.mark.parametrize(
    ("headers", "withheld"),
    [
        ([], ("b",)),
        ([(b"datong-withheld", b"b")], ()),
        ([(b"datong-withheld", b"c")], ("b",)),
        ([(b"datong-withheld", b"b"), (b"datong-withheld", b"b")], ("b",)),
        ([(b"datong-withheld", b"b"), (b"datong-masked", b"a")], ("b",)),
        ([(b"datong-withheld", b"b"), (b"etag", b'"1"')], ("b",)),
        ([(b"datong-withheld", b"b"), (b"content-encoding", b"identity")], ("b",)),
    ],
)
async def test_headers_that_say_something_else_than_the_statement_do_not_pass(
    headers: Headers, withheld: tuple[str, ...]
) -> None:
    body = b'{"a":1}'
    await check_answer(terms("a"), 200, [(b"datong-withheld", b"b"), (b"last-modified", b"x")], body, withheld=("b",))
    with pytest.raises(ReleaseError):
        await check_answer(terms("a"), 200, headers, body, withheld=withheld)


async def test_a_large_body_is_gone_through_beside_the_loop_and_all_the_same() -> None:
    body = json.dumps([{"a": NUMBER, "b": NUMBER} for _ in range(LARGE // 40)]).encode()
    assert len(body) > LARGE
    given_terms = terms("a=number")
    answer = await apply_terms_aside(given_terms, body, 200)
    assert answer == apply_terms(given_terms, body)
    told = told_headers(answer.withheld, answer.masked)
    await check_answer(given_terms, 200, told, answer.body, withheld=answer.withheld, masked=answer.masked)
    with pytest.raises(ReleaseError):
        await check_answer(given_terms, 200, told, body, withheld=answer.withheld, masked=answer.masked)

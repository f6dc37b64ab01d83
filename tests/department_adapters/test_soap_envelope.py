"""SOAP messages: what a WSDL says is what is written, read and promised. Zeep, which others wrote, is asked as well."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import jsonschema_rs
import pytest
import zeep
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate

from department_adapters.soap import values
from department_adapters.soap.answer import Fault, read_answer
from department_adapters.soap.markup import XmlError, parse
from department_adapters.soap.model import SchemaError, Simple
from department_adapters.soap.openapi import ecma, openapi_of
from department_adapters.soap.operation import SoapOperation
from department_adapters.soap.question import QuestionError, write_question
from department_adapters.soap.wsdl import ENVELOPES, Wsdl, load_wsdl

FOLDER = Path(__file__).parent / "wsdl"
EVERYTHING = FOLDER / "everything.wsdl"
RPC = FOLDER / "rpc.wsdl"
SMALL = {"version": 1, "text": "a", "whole": -5, "amount": "1.50", "yes": True, "day": None, "body": "b"}
STREET = {"street": "s"}
"""Zeep takes a group for required even where it need not be there."""
LARGE: dict[str, Any] = {
    **SMALL,
    "text": ' <地块> & "引号"\t\r\n 末 ',
    "long": 9_007_199_254_740_993,
    "endless": -(10**30),
    "ratio": 0.1,
    "day": "2024-02-29",
    "moment": "2024-02-29T23:59:59.5+08:00",
    "clock": "08:30:00",
    "bytes": base64.b64encode(bytes(range(256))).decode(),
    "code": "AB1234",
    "state": "现势",
    "numbers": [1, -2, 3],
    "tag": ["x", "", "y"],
    "area": {"unit": "m2", "value": "100.250"},
    "note": ["一", "二"],
    "mark": 'q"<&>\n\t',
    "part": [{**SMALL, "tag": [], "note": [], "part": []}],
    "street": "s",
    "house": "1",
}


@pytest.fixture(scope="module")
def everything() -> Wsdl:
    return load_wsdl(EVERYTHING)


def zeep_of(path: Path) -> Any:
    return zeep.Client(str(path), settings=zeep.Settings(forbid_external=True))


def canonical(document: bytes | Any) -> str:
    """The same text for documents that say the same; without the header, which may be there and empty."""
    text = document if isinstance(document, bytes) else zeep.wsdl.utils.etree_to_string(document)
    return ElementTree.canonicalize(text.decode(), rewrite_prefixes=True)


def as_zeep_wants(value: Any) -> Any:
    """Our JSON as arguments for zeep: the text of an element with attributes is called `_value_1` there."""
    if isinstance(value, dict):
        return {"_value_1" if name == "value" else name: as_zeep_wants(each) for name, each in value.items()}
    return [as_zeep_wants(each) for each in value] if isinstance(value, list) else value


def as_we_tell(value: Any) -> Any:
    """What zeep read, in our forms."""
    if isinstance(value, Mapping):
        told = {"value" if name == "_value_1" else name: as_we_tell(each) for name, each in value.items()}
        return {name: each for name, each in told.items() if each is not None or name == "day"}
    if isinstance(value, list):
        return [as_we_tell(each) for each in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def answer_with(question: bytes) -> bytes:
    """The envelope of a question as that of its answer."""
    return question.replace(b":Keep>", b":KeepResponse>").replace(b":Keep ", b":KeepResponse ")


@pytest.mark.parametrize("thing", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("port", ["Soap11", "Soap12"])
def test_zeep_writes_the_same_envelope(port: str, thing: dict[str, Any]) -> None:
    wsdl, client = load_wsdl(EVERYTHING, port=port), zeep_of(EVERYTHING)
    thing = thing | STREET | {"part": [each | STREET for each in thing.get("part", [])]}
    ours = write_question(wsdl.operation("Keep"), {"thing": thing}, wsdl.soap)
    service = client.bind("EverythingService", port)
    theirs = client.create_message(service, "Keep", thing=as_zeep_wants(thing))
    assert canonical(ours) == canonical(theirs)


def test_zeep_reads_the_same_from_an_answer(everything: Wsdl) -> None:
    operation = everything.operation("Keep")
    thing = {**LARGE, "tag": ["x", " "]}  # zeep tells an empty text as nothing
    envelope = answer_with(write_question(operation, {"thing": thing}, "1.1"))
    ours = read_answer(operation, envelope)
    client = zeep_of(EVERYTHING)
    binding = client.wsdl.services["EverythingService"].ports["Soap11"].binding
    response = SimpleNamespace(
        status_code=200, headers={"Content-Type": "text/xml"}, content=envelope, encoding="utf-8"
    )
    theirs = binding.process_reply(client, binding.get("Keep"), response)
    told = as_we_tell(zeep.helpers.serialize_object(theirs, dict))
    told["moment"] = "2024-02-29T23:59:59.5+08:00"  # which isoformat() writes with six digits
    inner = told["part"][0]
    assert ours == {"thing": told}
    assert inner["day"] is None


def test_zeep_writes_and_reads_the_same_in_rpc_style() -> None:
    wsdl, client = load_wsdl(RPC), zeep_of(RPC)
    asked = {"number": "320102-1", "year": 2024}
    ours = write_question(wsdl.operation("Find"), asked, wsdl.soap)
    theirs = client.create_message(client.service, "Find", **asked)
    assert canonical(ours) == canonical(theirs)
    # Parts have no namespace, and the wrapper's name is a custom only.
    for name in ("FindResponse", "FindReturn"):
        answer = (
            f'<e:Envelope xmlns:e="{ENVELOPES["1.1"]}"><e:Body><r:{name} xmlns:r="urn:rpc"><found><area> 12.50 </area>'
            f"<number>1</number></found></r:{name}></e:Body></e:Envelope>"
        )
        assert read_answer(wsdl.operation("Find"), answer.encode()) == {"found": {"number": "1", "area": "12.50"}}


def schema_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    """A component as a schema of its own."""
    text = json.dumps({"$ref": f"#/components/schemas/{name}", "$defs": document["components"]["schemas"]})
    schema: dict[str, Any] = json.loads(text.replace("#/components/schemas/", "#/$defs/"))
    return schema


CONTRACT = openapi_of(load_wsdl(EVERYTHING))
TEXT = st.text(
    st.characters(min_codepoint=32, exclude_characters="\ufffe\uffff", exclude_categories=("Cs",)), max_size=8
)
DECIMAL = st.decimals(allow_nan=False, allow_infinity=False, places=3).map("{:f}".format)
REQUIRED = {
    "version": st.integers(-(1 << 31), (1 << 31) - 1),
    "text": TEXT,
    "whole": st.integers(-(1 << 31), (1 << 31) - 1),
    "amount": DECIMAL,
    "yes": st.booleans(),
    "day": st.none() | st.dates().map(str),
}
OPTIONAL = {
    "long": st.integers(-(1 << 63), (1 << 63) - 1),
    "endless": st.integers(),
    "ratio": st.floats(allow_nan=False, allow_infinity=False) | st.just("NaN") | st.just("INF"),
    "moment": st.datetimes(timezones=st.none() | st.just(datetime.UTC)).map(datetime.datetime.isoformat),
    "clock": st.times().map(str),
    "bytes": st.binary(max_size=9).map(base64.b64encode).map(bytes.decode),
    "code": st.from_regex("[A-Z]{2}[0-9]{4}", fullmatch=True),
    "state": st.sampled_from(["现势", "历史"]),
    "numbers": st.lists(st.integers(-9, 9), max_size=3),
    "tag": st.lists(TEXT, max_size=3),
    "area": st.fixed_dictionaries({"unit": st.sampled_from(["m2", "亩"]), "value": DECIMAL}),
    "note": st.lists(TEXT, max_size=3),
    "mark": st.text(
        st.characters(codec="ascii", min_codepoint=9, exclude_categories=("Cc",)) | st.sampled_from("\t\r\n")
    ),
    "street": TEXT,
}
PERSON = {"owner": st.fixed_dictionaries({"name": TEXT}, optional={"share": DECIMAL})}
FLAT = st.fixed_dictionaries({**REQUIRED, "body": TEXT}, optional=OPTIONAL) | st.fixed_dictionaries(
    {**REQUIRED, **PERSON}, optional=OPTIONAL
)
THINGS = st.recursive(
    FLAT,
    lambda inner: st.tuples(FLAT, st.lists(inner, max_size=2)).map(lambda two: {**two[0], "part": two[1]}),
    max_leaves=4,
)


def whole(thing: dict[str, Any]) -> dict[str, Any]:
    """As an answer tells it: with arrays where there was nothing."""
    told = {**thing, **{name: thing.get(name, []) for name in ("tag", "note")}}
    return {**told, "part": [whole(each) for each in thing.get("part", [])]}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(thing=THINGS)
def test_what_is_asked_comes_back_as_it_was_and_keeps_to_the_contract(thing: dict[str, Any]) -> None:
    """The model that promises is the model that writes and reads."""
    operation = load_cached().operation("Keep")
    assert CHECK.is_valid({"thing": thing})
    told = read_answer(operation, answer_with(write_question(operation, {"thing": thing}, "1.1")))
    assert told == {"thing": whole(thing)}
    assert CHECK.is_valid(told)


CHECK = jsonschema_rs.Draft202012Validator(schema_of(CONTRACT, "Keep"), validate_formats=True)


_LOADED: list[Wsdl] = []


def load_cached() -> Wsdl:
    if not _LOADED:
        _LOADED.append(load_wsdl(EVERYTHING))
    return _LOADED[0]


@pytest.mark.parametrize(
    ("change", "pointer", "problem"),
    [
        ({"text": None}, "/thing/text", "must not be null"),
        ({"whole": "5"}, "/thing/whole", "must be a whole number"),
        ({"whole": True}, "/thing/whole", "must be a whole number"),
        ({"whole": 1 << 31}, "/thing/whole", "is outside the range of xsd:int"),
        ({"amount": 1.5}, "/thing/amount", "must be text"),
        ({"amount": "1e3"}, "/thing/amount", "has not the form of xsd:decimal"),
        ({"yes": "true"}, "/thing/yes", "must be true or false"),
        ({"day": "2023-02-29"}, "/thing/day", "is no day of the calendar"),
        ({"day": "2023-02-28T00:00:00"}, "/thing/day", "has not the form of xsd:date"),
        ({"bytes": "@@@"}, "/thing/bytes", "is not base64"),
        ({"text": "a\x00"}, "/thing/text", "holds a character that XML has no place for"),
        ({"text": "a\ud800"}, "/thing/text", "holds a character that XML has no place for"),
        ({"numbers": [1, "2"]}, "/thing/numbers", "must be a whole number"),
        ({"tag": "a"}, "/thing/tag", "must be an array"),
        ({"tag": [1]}, "/thing/tag/0", "must be text"),
        ({"note": ["1", "2", "3", "4"]}, "/thing/note", "must have 3 at most"),
        ({"owner": {"name": "n"}}, "/thing", "must have one of 'body' or 'owner', not several"),
        ({"area": {"value": "1"}}, "/thing/area/unit", "is required"),
        ({"area": {"unit": "a"}}, "/thing/area/value", "is required"),
        ({"house": "1"}, "/thing/street", "is required"),
        ({"a/b~": 1}, "/thing/a~1b~0", "is not known here"),
        ({"part": [SMALL, {**SMALL, "whole": 1.0}]}, "/thing/part/1/whole", "must be a whole number"),
        ({"part": {}}, "/thing/part", "must be an array"),
    ],
)
def test_what_is_wrong_with_a_question_is_told_with_a_pointer(
    everything: Wsdl, change: dict[str, Any], pointer: str, problem: str
) -> None:
    with pytest.raises(QuestionError) as wrong:
        write_question(everything.operation("Keep"), {"thing": {**SMALL, **change}}, "1.1")
    assert (wrong.value.pointer, wrong.value.problem) == (pointer, problem)


@pytest.mark.parametrize(
    ("base", "text", "value"),
    [
        ("unsignedByte", "-1", None),
        ("unsignedByte", "256", None),
        ("unsignedByte", " +255 ", 255),
        ("positiveInteger", "0", None),
        ("negativeInteger", "-1", -1),
        ("float", "1e400", "INF"),
        ("float", "-INF", "-INF"),
        ("float", "1e-2", 0.01),
        ("float", "0x1", None),
        ("boolean", "0", False),
        ("boolean", "yes", None),
        ("dateTime", "2024-13-01T00:00:00", None),
        ("dateTime", "2024-12-31T24:00:00", "2024-12-31T24:00:00"),
        ("date", "2024-12-31+08:00", "2024-12-31"),
        ("duration", "P", None),
        ("duration", "P1YT", None),
        ("duration", "-P1DT0.5S", "-P1DT0.5S"),
        ("gMonthDay", "--02-30", "--02-30"),
        ("base64Binary", " AP8\n= ", "AP8="),
        ("base64Binary", "AP8", None),
        ("hexBinary", "0", None),
        ("token", " a\n b ", "a b"),
        ("string", " a\n b ", " a\n b "),
    ],
)
def test_a_text_is_read_as_its_type_says_and_written_so_that_it_reads_the_same(
    base: str, text: str, value: Any
) -> None:
    kind = Simple(base=base)
    if value is None:
        with pytest.raises(ValueError, match=r"^is |^has "):
            values.read(kind, text)
    else:
        assert values.read(kind, text) == value
        assert values.read(kind, values.write(kind, value)) == value


@pytest.mark.parametrize("missing", ["text", "whole", "amount", "yes", "day", "version", "body"])
def test_what_is_required_must_be_there(everything: Wsdl, missing: str) -> None:
    thing = {name: each for name, each in SMALL.items() if name != missing}
    with pytest.raises(QuestionError):
        write_question(everything.operation("Keep"), {"thing": thing}, "1.1")
    with pytest.raises(QuestionError, match="must be an object"):
        write_question(everything.operation("Ring"), [1], "1.1")


def test_a_question_that_is_nested_too_deep_is_refused(everything: Wsdl) -> None:
    thing: dict[str, Any] = SMALL
    for _ in range(300):
        thing = {**SMALL, "part": [thing]}
    with pytest.raises(QuestionError, match="nested deeper"):
        write_question(everything.operation("Keep"), {"thing": thing}, "1.1")


def envelope(body: str, soap: Any = "1.1") -> bytes:
    return (
        f'<e:Envelope xmlns:e="{ENVELOPES[soap]}" xmlns="urn:everything" xmlns:t="urn:everything" '
        f'xmlns:i="http://www.w3.org/2001/XMLSchema-instance"><e:Body>{body}</e:Body></e:Envelope>'
    ).encode()


THING = "<text>a</text><whole>1</whole><amount>1</amount><yes>1</yes><day>2020-01-01Z</day>"


def test_a_derived_type_is_read_and_written_as_what_it_is(everything: Wsdl) -> None:
    owner = {"@type": "Official", "name": "n", "office": "o"}
    told = read_answer(
        everything.operation("Keep"),
        envelope(
            f'<KeepResponse><thing version="1">{THING}<owner i:type="t:Official"><name>n</name><office>o</office></owner>'
            "</thing></KeepResponse>"
        ),
    )
    assert isinstance(told, dict)
    assert told["thing"]["owner"] == owner
    thing = {name: each for name, each in SMALL.items() if name != "body"} | {"owner": owner}
    ours = write_question(everything.operation("Keep"), {"thing": thing}, "1.1")
    assert read_answer(everything.operation("Keep"), answer_with(ours)) == {"thing": whole(thing)}
    assert jsonschema_rs.is_valid(schema_of(CONTRACT, "Keep"), {"thing": thing})
    with pytest.raises(QuestionError, match="names no type"):
        write_question(everything.operation("Keep"), {"thing": {**thing, "owner": {**owner, "@type": "Thing"}}}, "1.1")


def test_what_the_schema_does_not_know_is_left_out_of_an_answer(everything: Wsdl) -> None:
    """What nobody declared does not leave the department."""
    told = read_answer(
        everything.operation("Keep"),
        envelope(
            f'<KeepResponse secret="1"><thing version="1" x="2"><!-- c -->{THING}<body>b</body><salary>9</salary></thing>'
            "<more/></KeepResponse>"
        ),
    )
    assert isinstance(told, dict)
    assert told["thing"] == whole({**SMALL, "whole": 1, "amount": "1", "day": "2020-01-01"})


def test_null_where_the_schema_allows_none_is_left_out(everything: Wsdl) -> None:
    thing = (
        THING.replace("<text>a</text>", '<text i:nil="true"/>')
        .replace("2020-01-01Z", "")
        .replace("<day", '<day i:nil="1"')
    )
    body = f'<KeepResponse><thing version="1">{thing}<tag i:nil="true"/><tag>b</tag><body i:nil="1"/></thing></KeepResponse>'
    told = read_answer(everything.operation("Keep"), envelope(body))
    assert isinstance(told, dict)
    expected = whole({"version": 1, "whole": 1, "amount": "1", "yes": True, "day": None, "tag": ["b"]})
    assert told["thing"] == expected


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (f"<KeepResponse><thing>{THING}</thing></KeepResponse>", "lacks the attribute version"),
        ('<KeepResponse><thing version="1"/></KeepResponse>', "lacks the element"),
        (f'<KeepResponse><thing version="x">{THING}</thing></KeepResponse>', "is no whole number"),
        (f'<KeepResponse><thing version="1">{THING}<text>b</text></thing></KeepResponse>', "several times"),
        (f'<KeepResponse><thing version="1">{THING}<text><b/></text></thing></KeepResponse>', "holds elements"),
        (f'<KeepResponse><thing version="1" i:type="t:Person">{THING}</thing></KeepResponse>', "may not stand there"),
        (f'<Keep><thing version="1">{THING}</thing></Keep>', "does not hold"),
        ("", "does not hold"),
    ],
)
def test_an_answer_that_breaks_its_wsdl_is_no_answer(everything: Wsdl, body: str, problem: str) -> None:
    with pytest.raises(XmlError, match=problem):
        read_answer(everything.operation("Keep"), envelope(body))


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (b"", "not XML"),
        (b"<a>", "not XML"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', "not XML"),
        (b"<html/>", "no SOAP envelope"),
        (b"<!DOCTYPE a><a/>", "DTD"),
        (b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', "DTD"),
        (b'<!DOCTYPE a SYSTEM "http://127.0.0.1:1/a.dtd"><a/>', "DTD"),
        ('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'.encode("utf-16"), "DTD"),
        (b'<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;&b;">]><a>&c;</a>', "DTD"),
        (b"<a>&undeclared;</a>", "not XML"),
        (b"<a>" * 300 + b"</a>" * 300, "nested deeper"),
        (b"<a>\x00</a>", "not XML"),
        (b"<x:a/>", "not XML"),
    ],
    ids=range(13),
)
def test_dangerous_and_broken_documents_are_refused(everything: Wsdl, document: bytes, problem: str) -> None:
    with pytest.raises(XmlError, match=problem):
        read_answer(everything.operation("Keep"), document)


@pytest.mark.parametrize("encoding", ["gb2312", "GBK", "gb18030", "big5", "iso-8859-1", "utf-16"])
def test_an_answer_in_another_encoding_is_read(encoding: str) -> None:
    text = "©" if encoding == "iso-8859-1" else "地塊" if encoding in ("big5", "utf-16") else "地块"
    assert parse(f'<?xml version="1.0" encoding="{encoding}"?><a>{text}</a>'.encode(encoding)).text == text
    assert parse(f"<a>{text}</a>".encode(encoding), charset=encoding).text == text
    # Many say GB 2312 and use characters of its successors.
    assert parse('<?xml version="1.0" encoding="GB2312"?><a>镕㐀</a>'.encode("gb18030")).text == "镕㐀"


FAULT_11 = (
    '<e:Fault xmlns=""><faultcode>e:Client.Data</faultcode><faultstring>secret text</faultstring>'
    "<detail><t:NotFound>x</t:NotFound></detail></e:Fault>"
)
FAULT_12 = (
    "<e:Fault><e:Code><e:Value>e:Sender</e:Value><e:Subcode><e:Value>t:NotFound</e:Value><e:Subcode><e:Value>t:Deep</e:Value>"
    "</e:Subcode></e:Subcode></e:Code><e:Reason><e:Text>secret text</e:Text></e:Reason>"
    "<e:Detail><t:Missing/></e:Detail></e:Fault>"
)


def test_faults_of_both_versions_are_known_by_their_names(everything: Wsdl) -> None:
    operation = everything.operation("Keep")
    assert read_answer(operation, envelope(FAULT_11)) == Fault("Client", ("NotFound", "Client.Data"), "secret text")
    assert read_answer(operation, envelope(FAULT_12, "1.2")) == Fault(
        "Client", ("Missing", "Deep", "NotFound", "Sender"), "secret text"
    )
    assert read_answer(operation, envelope("<e:Fault/>")) == Fault("", ("",), "")


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        (r"[A-Z]{2}\d{4}", "[A-Z]{2}[0-9]{4}"),
        (r"[\d\-x]+", r"[0-9\-x]+"),
        (r"a\-b\.c", r"a-b\.c"),
        (r"[^a]b", "[^a]b"),
        (r"(a|b)*", "(a|b)*"),
        (r"\p{L}+", ""),
        (r"\i\c*", ""),
        ("[a-z-[aeiou]]", ""),
        ("a^b", ""),
        ("5$", ""),
    ],
)
def test_patterns_are_told_as_far_as_both_languages_have_them(pattern: str, told: str) -> None:
    assert ecma(pattern) == told


def test_the_contract_is_valid_openapi_and_tells_what_the_wsdl_tells() -> None:
    for path in (EVERYTHING, RPC):
        validate(openapi_of(load_wsdl(path)))
    thing = CONTRACT["components"]["schemas"]["Thing"]
    assert thing["description"].startswith("A thing of all types")
    assert thing["required"] == ["text", "whole", "amount", "yes", "day", "version"]
    assert thing["properties"]["state"]["enum"] == ["现势", "历史"]
    assert thing["properties"]["code"]["pattern"] == "^(?:[A-Z]{2}[0-9]{4})$"
    assert CONTRACT["paths"]["/Keep"]["post"]["description"] == "Keeps a thing and tells it."
    assert CONTRACT["components"]["schemas"]["Official.variant"]["required"] == ["@type", "name", "office"]


def test_the_contract_of_declared_operations_has_their_parameters() -> None:
    found = SoapOperation(path="/parcels/{number}", soap="Find", method="GET", result="found")
    document = openapi_of(load_wsdl(RPC), [found], title="Parcels")
    validate(document)
    operation = document["paths"]["/parcels/{number}"]["get"]
    assert [(each["name"], each["in"], each["required"]) for each in operation["parameters"]] == [
        ("number", "path", True),
        ("year", "query", True),
    ]
    assert operation["responses"]["200"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Parcel"
    }
    posted = SoapOperation(path="/find/{number}", soap="Find")
    body = openapi_of(load_wsdl(RPC), [posted])["paths"]["/find/{number}"]["post"]["requestBody"]
    assert list(body["content"]["application/json"]["schema"]["properties"]) == ["year"]


def test_a_port_is_chosen_by_its_name(everything: Wsdl) -> None:
    assert (everything.port, everything.soap) == ("Soap11", "1.1")
    other = load_wsdl(EVERYTHING, port="Soap12")
    assert (other.soap, other.address) == ("1.2", "http://127.0.0.1:1/everything12?v=2")
    with pytest.raises(SchemaError, match="it has: Soap11, Soap12"):
        load_wsdl(EVERYTHING, port="Soap13")


def test_an_operation_that_cannot_be_offered_is_left_out_with_the_reason(everything: Wsdl) -> None:
    assert set(everything.operations) == {"Keep", "Ring"}
    with pytest.raises(SchemaError, match="SOAP-encoded"):
        everything.operation("Encoded")
    with pytest.raises(SchemaError, match="it has: Keep, Ring"):
        everything.operation("Nothing")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("common/types.xsd", "http://example.invalid/types.xsd", "is not fetched"),
        ("common/types.xsd", "//example.invalid/types.xsd", "is not fetched"),
        ("common/types.xsd", "../../types.xsd", "outside the folder"),
        ("common/types.xsd", "/etc/hostname", "outside the folder"),
        ("common/types.xsd", "file:///etc/hostname", "outside the folder"),
        ("common/types.xsd", "common/nothing.xsd", "No such file"),
        ("<w:types>", "<w:type>", "not XML"),
        ('type="c:Code"', 'type="c:Nothing"', "is referred to and nowhere declared"),
        ('type="x:decimal"', 'type="x:money"', "no type of XML Schema"),
        ('binding="t:Everything11"', 'binding="t:Other"', "nowhere declared"),
        ('<w:definitions xmlns:w="http://schemas.xmlsoap.org/wsdl/"', '<w:definitions xmlns:w="urn:w"', "no WSDL 1.1"),
        ('<?xml version="1.0" encoding="utf-8"?>', "<!DOCTYPE a>", "DTD"),
    ],
)
def test_a_wsdl_that_cannot_be_used_is_refused_with_the_reason(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("types.xsd", "adopted.xsd"):
        (tmp_path / "in/common").mkdir(exist_ok=True)
        (tmp_path / "in/common" / name).write_bytes((FOLDER / "common" / name).read_bytes())
    text = EVERYTHING.read_text()
    assert old in text
    (tmp_path / "in/a.wsdl").write_text(text.replace(old, new))
    with pytest.raises(SchemaError, match=problem):
        load_wsdl(tmp_path / "in/a.wsdl").operation("Keep")


def test_an_import_from_elsewhere_may_be_named_as_a_file(tmp_path: Path) -> None:
    where = "http://example.invalid/types.xsd"
    (tmp_path / "a.wsdl").write_text(EVERYTHING.read_text().replace("common/types.xsd", where))
    wsdl = load_wsdl(
        tmp_path / "a.wsdl",
        documents={where: FOLDER / "common/types.xsd", "adopted.xsd": FOLDER / "common/adopted.xsd"},
    )
    assert openapi_of(wsdl)["components"] == CONTRACT["components"]


ODD: dict[str, Any] = {
    "lease": [{"holder": "h", "until": "2030-06", "id": "l1"}],
    "easement": [{}],
    "held": {"holder": "n"},
    "height": 5,
    "built": 7,
    "span": "P1Y2MT3.5S",
    "colour": "00ff7F",
    "free": "anything",
    "id": "element",
    "kind": "odd",
    "node": {"label": "a", "node": [{"label": "b", "node": []}]},
    "@id": "attribute",
    "version": "1",
}


@pytest.fixture(scope="module")
def odd() -> Wsdl:
    return load_wsdl(FOLDER / "odd.wsdl")


def test_what_is_met_less_often_comes_back_as_it_was_and_keeps_to_the_contract(odd: Wsdl) -> None:
    operation = odd.operation("Tell")
    document = openapi_of(odd, [SoapOperation(path="/tell", soap="Tell"), SoapOperation(path="/bare", soap="Bare")])
    validate(document)
    check = jsonschema_rs.Draft202012Validator(schema_of(document, "Odd"), validate_formats=True)
    for thing in (ODD, {**ODD, "height": "unknown"}, {"version": "1", "kind": "odd"}):
        envelope = write_question(operation, thing, "1.1").replace(b":Tell>", b":TellResponse>")
        told = read_answer(operation, envelope.replace(b":Tell ", b":TellResponse "))
        assert told == {"lease": [], "easement": [], **thing}
        assert check.is_valid(thing)
        assert check.is_valid(told)
    for wrong in ({"height": "tall"}, {"built": 101}, {"span": "P"}, {"colour": "0"}, {"lease": [{}]}, {"more": 1}):
        assert not check.is_valid({**ODD, **wrong}), wrong


def test_fixed_texts_are_filled_in_and_no_others_are_taken(odd: Wsdl) -> None:
    operation = odd.operation("Tell")
    filled = write_question(operation, {}, "1.1")
    assert b">odd</" in filled
    assert b':version="1"' in filled
    for wrong in ({"kind": "even"}, {"version": "2"}):
        with pytest.raises(QuestionError, match="fixed value"):
            write_question(operation, wrong, "1.1")


def test_content_of_any_type_is_told_as_it_stands(odd: Wsdl) -> None:
    inside = "<a>1</a><a>2</a><b><c/></b><a>3</a>"
    nil = 'xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:nil="true"'
    for written, told in (
        (inside, {"a": ["1", "2", "3"], "b": {"c": ""}}),
        ("text", "text"),
        (f"<a {nil}/>", {"a": None}),
    ):
        body = (
            f'<o:TellResponse xmlns:o="urn:odd" o:version="1"><o:free>{written}</o:free><o:kind>odd</o:kind>'
            f'<x xmlns="urn:other">secret</x></o:TellResponse>'
        )
        answer = read_answer(odd.operation("Tell"), envelope(body))
        assert isinstance(answer, dict)
        assert answer == {"version": "1", "kind": "odd", "lease": [], "easement": [], "free": told}


def test_an_element_that_is_only_a_text_is_a_member_of_its_name(odd: Wsdl) -> None:
    operation = odd.operation("Bare")
    asked = write_question(operation, {"Code": "a&b"}, "1.1")
    assert read_answer(operation, asked) == {"Code": "a&b"}
    for wrong in ({}, [], {"Code": "a", "b": 1}, {"Code": 1}):
        with pytest.raises(QuestionError):
            write_question(operation, wrong, "1.1")


def test_a_question_in_which_a_group_repeats_as_a_whole_cannot_be_asked(odd: Wsdl) -> None:
    assert set(odd.operations) == {"Tell", "Bare"}
    with pytest.raises(SchemaError, match="no form in JSON"):
        odd.operation("Pair")

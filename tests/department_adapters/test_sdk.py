"""Adapters written in Python: what a signature asks for, what its results become, and that faults stay inside."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import decimal
import enum
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, TypedDict

import msgspec
import pydantic
import pytest
from openapi_spec_validator import validate
from structlog.testing import capture_logs

from department_adapters import (
    Adapter,
    AdapterTest,
    BusTest,
    ContractError,
    SourceAnswer,
    SourceRequest,
    TestedAnswer,
    read_contract,
)
from department_adapters.code.loading import load_adapter
from department_adapters.code.shapes import ResultError
from deploy.demo.identities import TAX_SUBSYSTEM
from deploy.nats import NatsServer
from exchange import AnswerTimeoutError, BackendError, ConflictError
from tests.conftest import Pki
from tests.department_adapters.adapter_kit import FullDisk, Gateway, adapter_on
from tests.registry.description_kit import described

Number = NewType("Number", str)


class Sex(enum.Enum):
    MALE = "男"
    FEMALE = "女"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Person:
    """One person."""

    number: str
    born: datetime.date
    sex: Sex = Sex.FEMALE


@dataclasses.dataclass
class Insured(Person):
    secret: str = "canary"


class Wish(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    amounts: list[decimal.Decimal] = []


class Place(pydantic.BaseModel):
    street: str = pydantic.Field(min_length=2)
    people: list[Person] = []

    @pydantic.field_validator("street")
    @classmethod
    def _known(cls, street: str) -> str:
        if street == "nowhere":
            raise ValueError(f"canary: {street}")
        return street


class Plain(TypedDict):
    a: int


BORN = datetime.date(1954, 2, 17)


def problem(answer: TestedAnswer, status: int) -> Any:
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    told = answer.json()
    assert told["status"] == status
    return told


# -- parameters

PARAMETERS: list[tuple[Any, str, object]] = [
    (str, "例 甲", "例 甲"),
    (str, "00042", "00042"),
    (int, "42", 42),
    (float, "1.5", 1.5),
    (bool, "true", True),
    (datetime.date, "1954-02-17", "datetime.date(1954, 2, 17)"),
    (decimal.Decimal, "1.10", "Decimal('1.10')"),
    (uuid.UUID, "0191c5f0-0000-7000-8000-000000000000", "UUID('0191c5f0-0000-7000-8000-000000000000')"),
    (Sex, "男", "<Sex.MALE: '男'>"),
    (Literal["a", "b"], "b", "b"),
    (Number, "7", "7"),
    (Annotated[int, pydantic.Field(ge=1)], "7", 7),
    (int | None, "7", 7),
]


@pytest.mark.parametrize(("annotation", "text", "value"), PARAMETERS, ids=[str(each[0]) for each in PARAMETERS])
async def test_parameters_are_what_they_are_declared_to_be(annotation: Any, text: str, value: object) -> None:
    """In the path and in the query string."""
    adapter = Adapter()

    async def shown(given: Any, asked: Any) -> dict[str, Any]:
        assert given == asked
        return {
            "value": given if isinstance(given, str | int | float) and not isinstance(given, enum.Enum) else repr(given)
        }

    shown.__annotations__ |= {"given": annotation, "asked": annotation}
    adapter.get("/x/{given}")(shown)
    async with AdapterTest(adapter) as call:
        assert (await call.get(f"/x/{text}", {"asked": text})).json() == {"value": value}


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "x"),
        (int, ""),
        (bool, "perhaps"),
        (datetime.date, "17.02.1954"),
        (decimal.Decimal, "1,5"),
        (Sex, "x"),
        (Literal["a"], "b"),
        (Annotated[int, pydantic.Field(ge=1)], "0"),
        (list[int], "x"),
    ],
)
async def test_a_parameter_of_another_kind_is_refused_without_telling_it(annotation: Any, text: str) -> None:
    adapter = Adapter()

    async def shown(asked: Any) -> None: ...

    shown.__annotations__["asked"] = annotation
    adapter.get("/x")(shown)
    async with AdapterTest(adapter) as call:
        told = problem(await call.get("/x", {"asked": text}), 400)
        assert told["errors"][0]["parameter"] == "asked"
        assert not text or f"'{text}'" not in told["detail"].replace("'asked'", "")


@pytest.fixture
def adapter() -> Adapter:
    adapter = Adapter("People", version="2.1.0")

    @adapter.get("/people/{number}")
    async def person(number: str, year: int | None = None, tags: list[int] | None = None) -> Person | None:
        """One person.

        With all that is known.
        """
        if number == "0":
            return None
        return Person(number, BORN.replace(year=year or 1954), Sex.MALE if tags == [1, 2] else Sex.FEMALE)

    @adapter.get("/people")
    def people(division: str, from_: datetime.date = BORN, *, request: SourceRequest) -> list[Person]:
        return [Person(f"{division} {request.method} {from_}", from_)]

    @adapter.post("/wishes", status=201)
    async def wish(wish: Wish) -> Wish | tuple[int, dict[str, str]]:
        return (409, {"why": "twice"}) if wish.kind == "twice" else wish

    @adapter.post("/search", safe=True)
    async def search(place: Place, limit: Annotated[int, pydantic.Field(le=10)] = 5) -> Place:
        return place

    @adapter.put("/files/{name}")
    async def file(name: str, body: bytes) -> None: ...

    @adapter.patch("/plain")
    async def plain(body: Plain | None = None):  # type: ignore[no-untyped-def]  # a result of no declared type
        return {"body": body, "wish": Wish("x"), "person": Person("1", BORN)}

    @adapter.delete("/people/{number}")
    async def forget(number: Number, level: Level = Level.LOW) -> SourceAnswer:
        return SourceAnswer(200, [(b"content-type", b"text/plain")], f"{number} {level!r}".encode())

    return adapter


@pytest.mark.parametrize(
    ("method", "target", "status", "body"),
    [
        ("GET", "/people/7", 200, {"number": "7", "born": "1954-02-17", "sex": "女"}),
        ("GET", "/people/%E4%BE%8B?year=1999&tags=1&tags=2", 200, {"number": "例", "born": "1999-02-17", "sex": "男"}),
        (
            "GET",
            "/people?division=1&from=2000-01-01",
            200,
            [{"number": "1 GET 2000-01-01", "born": "2000-01-01", "sex": "女"}],
        ),
        ("GET", "/people/0", 404, "There is no such record."),
        ("GET", "/people", 400, "The parameter 'division' is required."),
        ("GET", "/people/7?yaer=1999", 400, "The query parameter 'yaer' is not known here."),
        ("GET", "/people/7?year=1&year=2", 400, "The parameter 'year' is given twice."),
        ("GET", "/people/%FF", 400, "The path is not UTF-8."),
        ("GET", "/people?division=%FF", 400, "A parameter is not UTF-8."),
        ("GET", "/people/7?" + "&".join(["tags=1"] * 101), 400, "There are too many parameters."),
        ("GET", "/people/7/", 404, "There is no such operation."),
        ("GET", "/", 404, "There is no such operation."),
        ("PUT", "/people/7", 405, "Only GET, HEAD, DELETE are offered here."),
    ],
)
async def test_what_is_asked_is_answered_or_refused(
    adapter: Adapter, method: str, target: str, status: int, body: Any
) -> None:
    async with AdapterTest(adapter) as call:
        answer = await call.call(method, target)
        assert answer.status == status
        assert (answer.json()["detail"] if status >= 400 else answer.json()) == body
        if method == "GET":
            head = await call.call("HEAD", target)
            assert (head.status, head.headers, head.body) == (status, answer.headers, b"")


async def test_bodies_are_what_they_are_declared_to_be(adapter: Adapter) -> None:
    async with AdapterTest(adapter) as call:
        answer = await call.post("/wishes", {"kind": "a", "amounts": ["1.10"]})
        assert (answer.status, answer.json()) == (201, {"kind": "a", "amounts": ["1.10"]})
        answer = await call.post("/wishes", {"kind": "twice"})
        assert (answer.status, answer.json()) == (409, {"why": "twice"})
        place = {"street": "ab", "people": [{"number": "1", "born": "2000-01-01", "sex": "男"}]}
        assert (await call.post("/search?limit=3", place)).json() == place
        assert await call.put("/files/a", body=b"\x00\xff") == TestedAnswer(204, {}, b"")
        answer = await call.patch("/plain", {"a": 1})
        assert answer.json() == {
            "body": {"a": 1},
            "wish": {"kind": "x", "amounts": []},
            "person": {"number": "1", "born": "1954-02-17", "sex": "女"},
        }
        assert (await call.patch("/plain")).json()["body"] is None
        answer = await call.delete("/people/7?level=2")
        assert (answer.headers, answer.body) == ({"content-type": "text/plain"}, b"7 <Level.HIGH: 2>")


@pytest.mark.parametrize(
    ("path", "body", "pointers"),
    [
        ("/wishes", {"kind": 5}, ["/kind"]),
        ("/wishes", {"kind": "a", "amounts": ["1", "x"]}, ["/amounts/1"]),
        ("/wishes", {"kind": "a", "canary": 1}, [""]),
        ("/wishes", [], [""]),
        ("/search", {"street": "a"}, ["/street"]),
        ("/search", {"street": "nowhere"}, ["/street"]),
        ("/search", {"street": "ab", "people": [{"number": 5, "born": "x"}]}, ["/people/0/number", "/people/0/born"]),
    ],
)
async def test_a_body_that_breaks_the_contract_is_told_by_place(
    adapter: Adapter, path: str, body: object, pointers: list[str]
) -> None:
    async with AdapterTest(adapter) as call:
        told = problem(await call.post(path, body), 422)
        assert [each["pointer"] for each in told["errors"]] == pointers
        assert "canary:" not in json.dumps(told)  # what a check of the department's own says is not for callers
        told = problem(await call.post(path, body, headers={"accept-language": "zh"}), 422)
        assert "不符合约定" in told["detail"]


@pytest.mark.parametrize("declared", [dict[str, int], Plain])
async def test_text_is_no_number_in_a_body(declared: Any) -> None:
    adapter = Adapter()

    async def shown(body: Any) -> Any:
        return body

    shown.__annotations__["body"] = declared
    adapter.post("/x")(shown)
    async with AdapterTest(adapter) as call:
        assert (await call.post("/x", {"a": 5})).json() == {"a": 5}
        assert problem(await call.post("/x", {"a": "5"}), 422)["errors"][0]["pointer"] == "/a"


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"body": b"{"}, 400),
        ({"body": b'{"kind":"\xff"}'}, 400),
        ({}, 400),
        ({"body": b"kind=a", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 415),
        ({"body": b"{}", "headers": {"Content-Type": "application/json; charset=gbk"}}, 415),
        ({"body": b'{"kind":"a"}', "headers": {"Content-Type": 'application/vnd.x+json; charset="UTF-8"'}}, 201),
    ],
)
async def test_a_body_that_is_no_json_is_refused(adapter: Adapter, options: dict[str, Any], status: int) -> None:
    async with AdapterTest(adapter) as call:
        assert (await call.post("/wishes", **options)).status == status
        assert (await call.call("GET", "/people/7", body=b"x")).status == 400


# -- results


async def test_only_declared_members_leave(adapter: Adapter) -> None:
    """A result of a richer type is told as the type that is declared."""

    @adapter.get("/insured")
    async def insured() -> Person:
        return Insured("1", BORN)

    async with AdapterTest(adapter) as call:
        assert b"canary" not in (await call.get("/insured")).body


@pytest.mark.parametrize("declared", [Person, Wish, list[Person], list[Wish], Place, int])
async def test_a_result_of_another_type_is_a_fault_that_holds_no_value(declared: Any) -> None:
    adapter = Adapter()

    async def wrong() -> Any:
        return {"canary": "canary"}

    wrong.__annotations__["return"] = declared
    adapter.get("/wrong")(wrong)
    async with AdapterTest(adapter) as call:
        with pytest.raises(ResultError) as fault:
            await call.get("/wrong")
    assert "canary" not in str(fault.value)
    assert fault.value.__cause__ is None


async def test_a_pair_that_is_declared_is_a_body() -> None:
    adapter = Adapter()

    @adapter.get("/pair")
    async def pair() -> tuple[float, float]:
        return 1, 2.0  # the first is an int, and no status

    @adapter.get("/status")
    async def status():  # type: ignore[no-untyped-def]
        return 202, None

    async with AdapterTest(adapter) as call:
        assert (await call.get("/pair")).json() == [1.0, 2.0]
        assert await call.get("/status") == TestedAnswer(202, {}, b"")


async def test_an_answer_may_be_a_stream() -> None:
    """For what is too large for memory; whoever asks for the head alone gets no further than that."""
    adapter = Adapter()
    ended: list[str] = []

    async def pieces() -> AsyncIterator[bytes]:
        try:
            for number in range(3):
                yield b"%d" % number * 1000
            ended.append("read")
        finally:
            ended.append("closed")

    @adapter.get("/all")
    async def everything() -> SourceAnswer:
        made = pieces()
        await anext(made)
        return SourceAnswer(200, [(b"content-type", b"text/plain")], b"", stream=made)

    async with AdapterTest(adapter) as call:
        assert (await call.get("/all")).body == b"1" * 1000 + b"2" * 1000
        assert ended == ["read", "closed"]
        assert (await call.call("HEAD", "/all")).body == b""
        assert ended == ["read", "closed", "closed"]


async def test_functions_that_block_run_beside_each_other_in_threads() -> None:
    adapter = Adapter(threads=3)
    together = threading.Barrier(3, timeout=30)

    @adapter.get("/wait")
    def wait() -> bool:
        together.wait()
        return threading.current_thread() is not threading.main_thread()

    async with AdapterTest(adapter) as call:
        answers = await asyncio.gather(*(call.get("/wait") for _ in range(3)))
    assert [answer.json() for answer in answers] == [True] * 3


async def test_nobody_waits_for_a_thread_after_the_deadline() -> None:
    adapter = Adapter(threads=1)
    let_go, begun = threading.Event(), []

    @adapter.get("/{name}")
    def stuck(name: str) -> None:
        begun.append(name)
        let_go.wait(30)

    async with AdapterTest(adapter, timeout=0.05) as call:
        for name in ("first", "second"):
            with pytest.raises(AnswerTimeoutError):
                await call.get(f"/{name}")
        assert begun == ["first"]  # the second never had its turn, and no longer gets one
    let_go.set()


# -- starting and stopping


async def test_what_is_to_be_started_is_started_once_and_stopped_in_reverse() -> None:
    adapter, happened = Adapter(), []

    @adapter.on_start
    async def pool() -> None:
        happened.append("pool")

    @adapter.on_start
    def cache() -> None:
        happened.append("cache")

    @adapter.on_stop
    async def close_pool() -> None:
        happened.append("close pool")

    @adapter.on_stop
    def close_cache() -> None:
        happened.append("close cache")
        raise ValueError("cannot")

    async with AdapterTest(adapter), AdapterTest(adapter):  # two services with one adapter
        assert happened == ["pool", "cache"]
    assert happened == ["pool", "cache", "close cache", "close pool"]


async def test_an_adapter_whose_start_fails_does_not_start() -> None:
    adapter = Adapter()

    @adapter.on_start
    def pool() -> None:
        raise ConnectionError("no route")

    with pytest.raises(ConnectionError):
        await adapter.start()


# -- signatures


def _two_bodies(a: Plain, b: Person) -> None: ...
def _everything(*names: str) -> None: ...
def _any_name(**names: str) -> None: ...
def _without_the_name(other: str) -> None: ...
def _a_body_in_the_path(name: Plain) -> None: ...
def _a_list_in_the_path(name: list[str]) -> None: ...
def _no_json(name: str, value: threading.Lock) -> None: ...  # type: ignore[valid-type]
def _unknown_type(name: str) -> Nowhere: ...  # type: ignore[name-defined]  # noqa: F821
def _good(name: str) -> None: ...


@pytest.mark.parametrize(
    ("path", "function", "problem"),
    [
        ("/x", _two_bodies, "_two_bodies: 'a' and 'b' would both be the body"),
        ("/x", _everything, "'names' cannot be given by name"),
        ("/x", _any_name, "'names' cannot be given by name"),
        ("/{name}", _without_the_name, "the path names 'name', which is no argument"),
        ("/{name}", _a_body_in_the_path, "is of the path, and must be of a plain type"),
        ("/{name}", _a_list_in_the_path, "is of the path, and must be of a plain type"),
        ("/{name}", _no_json, "cannot be told as JSON"),
        ("/{name}", _unknown_type, "define the type before the function"),
        ("/{name}/{name}", _good, "names a parameter twice"),
        ("/{name", _good, "a brace that belongs to no parameter"),
    ],
)
def test_a_signature_that_cannot_be_served_is_refused_at_once(
    path: str, function: Callable[..., Any], problem: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=problem):
        Adapter().post(path)(function)


def test_a_body_is_nothing_for_a_get() -> None:
    with pytest.raises(TypeError, match="GET has none"):
        Adapter().get("/x")(_two_bodies_are_one)


def _two_bodies_are_one(a: Plain) -> None: ...


# -- the contract


def test_the_contract_is_valid_and_says_what_the_adapter_does(adapter: Adapter) -> None:
    document = adapter.openapi()
    validate(document)
    assert document["info"] == {"title": "People", "version": "2.1.0"}
    person = document["paths"]["/people/{number}"]["get"]
    assert (person["summary"], person["description"]) == ("One person.", "With all that is known.")
    assert [(each["name"], each["in"], each["required"]) for each in person["parameters"]] == [
        ("number", "path", True),
        ("year", "query", False),
        ("tags", "query", False),
    ]
    assert person["responses"].keys() == {"200", "400", "404"}
    assert document["paths"]["/search"]["post"]["x-datong-safe"] is True
    assert {"Person", "Wish", "Place", "Problem"} <= document["components"]["schemas"].keys()
    people = document["paths"]["/people"]["get"]["parameters"]
    assert [(each["name"], each["schema"].get("default")) for each in people] == [
        ("division", None),
        ("from", "1954-02-17"),
    ]
    # The registry reads it, and finds the same operations.
    read = described(document)
    assert {(each.operation.method, each.operation.path, each.operation.safe) for each in read.values()} == {
        ("GET", "/people/{number}", True),
        ("GET", "/people", True),
        ("POST", "/wishes", False),
        ("POST", "/search", True),
        ("PUT", "/files/{name}", False),
        ("PATCH", "/plain", False),
        ("DELETE", "/people/{number}", False),
    }


def test_two_types_of_one_name_are_refused() -> None:
    adapter = Adapter()
    other = msgspec.defstruct("Person", [("x", int)])

    async def mine() -> Person: ...  # type: ignore[empty-body]
    async def theirs() -> Any: ...

    theirs.__annotations__["return"] = other
    adapter.get("/mine")(mine)
    adapter.get("/theirs")(theirs)
    with pytest.raises(TypeError, match="two types are called Person"):
        adapter.openapi()


# -- from a file, in the mesh

MODULE = """
from __future__ import annotations

import dataclasses

import beside
from department_adapters import Adapter
from exchange import ConflictError

adapter = Adapter()


@dataclasses.dataclass
class Person:
    number: str
    name: str


@adapter.get("/people/{number}")
async def person(number: str) -> Person | None:
    if number == "fault":
        raise KeyError("canary of the department")
    if number == "conflict":
        raise ConflictError(problem="already there")
    return Person(number, beside.NAME) if number != "0" else None


@adapter.post("/people")
async def add(person: Person) -> tuple[int, Person]:
    if person.number == "fault":
        raise KeyError("canary of the department")
    return 201, person
"""


def home_with(folder: Path, module: str = MODULE) -> Path:
    """A folder with adapter.toml and what it names; returns the file."""
    (folder / "people.py").write_text(module, encoding="utf-8")
    (folder / "beside.py").write_text('NAME = "例甲子天"\n', encoding="utf-8")
    (folder / "adapter.toml").write_text(
        f"""
[adapter]
name = "tax"
subsystem = "{TAX_SUBSYSTEM}"
[bus]
url = "tls://127.0.0.1:1"
certificate = "c"
key = "k"
trust_anchors = "t"
gateways = "g"
[services.enterprises]
source = "python"
module = "people.py"
""",
        encoding="utf-8",
    )
    return folder / "adapter.toml"


async def test_an_adapter_file_names_the_module_and_faults_stay_inside(
    tmp_path: Path, nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    service = read_contract(home_with(tmp_path)).services["enterprises"]
    source = service.make_source(max_answer=1000)
    with capture_logs() as said:
        async with adapter_on(nats_server, pki, {"enterprises": source}, ledger):
            answer = await gateway.ask(target=b"/people/1")
            assert (answer.statement.status, json.loads(answer.body)) == (200, {"number": "1", "name": "例甲子天"})
            assert (await gateway.ask(target=b"/people/0")).statement.status == 404
            body = b'{"number":"2","name":"x"}'
            answer = await gateway.ask("POST", b"/people", body)
            assert (answer.statement.status, answer.body) == (201, body)
            answers = [
                await gateway.ask(target=b"/people/fault"),
                await gateway.ask(target=b"/people/conflict"),
                await gateway.ask("POST", b"/people", b'{"number":"fault","name":"x"}'),
            ]
    # Of an operation that may have changed something, nobody says that it failed.
    assert [answer.statement.error for answer in answers] == [
        BackendError.code,
        ConflictError.code,
        AnswerTimeoutError.code,
    ]
    assert not any(b"canary" in answer.body + answer.head.statement for answer in answers)
    assert any("canary" in str(each) for each in said)  # the department's own log has it


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        ("adapter = 5\n", "'adapter' is no Adapter there"),
        ("\n\n1 / 0\n", r"people.py, line 3: ZeroDivisionError"),
        ("import nowhere_to_be_found\n", "line 1: ModuleNotFoundError"),
        ("def f(:\n", "SyntaxError"),
        (
            "from department_adapters import Adapter\na = Adapter()\n@a.get('/{x}')\ndef f(): ...\n",
            "line 3: TypeError: f: the path names 'x'",
        ),
    ],
)
def test_a_module_that_cannot_be_used_is_told_with_its_line(tmp_path: Path, module: str, problem: str) -> None:
    contract = read_contract(home_with(tmp_path, module))
    before = {*sys.modules}
    with pytest.raises(ContractError, match=problem):
        contract.services["enterprises"].make_source(max_answer=1000)
    assert (
        not [name for name in {*sys.modules} - before if name.startswith("datong_adapter")] or "adapter = 5" in module
    )


def test_a_module_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="No such file"):
        load_adapter(tmp_path / "nothing.py", "adapter")
    with pytest.raises(ContractError, match="not a Python file"):
        load_adapter(tmp_path / "nothing.txt", "adapter")


def test_a_file_of_the_department_replaces_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home_with(tmp_path, MODULE.replace("import beside", "import beside\nimport colorsys"))
    (tmp_path / "colorsys.py").write_text("raise ValueError('taken')\n")
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    loaded = load_adapter(tmp_path / "people.py", "adapter")
    assert loaded is not load_adapter(tmp_path / "people.py", "adapter")  # run anew, so that a change counts


PROGRAM = """
from department_adapters import Adapter

adapter = Adapter()


@adapter.get("/people/{number}")
def person(number: str) -> dict[str, str]:
    return {"number": number}


if __name__ == "__main__":
    adapter.run()
"""


async def test_a_program_serves_itself_until_it_is_told_to_stop(
    tmp_path: Path, nats_server: NatsServer, pki: Pki, gateway: Gateway
) -> None:
    contract = home_with(tmp_path, PROGRAM)
    text = contract.read_text(encoding="utf-8").replace("tls://127.0.0.1:1", nats_server.url)
    files = {"c": pki.certificate("tax"), "k": pki.key("tax"), "t": pki.trust_anchors, "g": pki.certificate("gateway")}
    for short, path in files.items():
        text = text.replace(f' = "{short}"', f' = "{path}"')
    contract.write_text(text, encoding="utf-8")
    root = str(Path(__file__).parents[2])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "people.py",
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout
        said = (await process.stdout.readline()).decode()
        assert "connected outward" in said
        answer = await gateway.ask(target=b"/people/7")
        assert (answer.statement.status, json.loads(answer.body)) == (200, {"number": "7"})
    finally:
        process.terminate()
        _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


def test_a_program_that_no_service_names_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        Adapter().run(home_with(tmp_path))
    assert end.value.code == 2
    assert "no service has this program as its module" in capsys.readouterr().err


async def test_a_source_is_tested_over_a_bus_of_its_own(tmp_path: Path) -> None:
    """As callers get it: faults as their codes, the terms of a grant applied."""
    source = load_adapter(home_with(tmp_path).parent / "people.py", "adapter")
    async with BusTest(source, release=["name=name"]) as call:
        answer = await call.get("/people/1")
        assert (answer.status, answer.json(), answer.error) == (200, {"name": "例***"}, "")
        assert answer.headers["datong-withheld"] == "number"
        assert (await call.get("/people/0")).status == 404
        assert (await call.get("/people/fault")).error == BackendError.code
        told = await call.post("/people", {"number": "fault", "name": "x"})
        assert (told.status, told.error, told.body) == (0, AnswerTimeoutError.code, b"")


async def test_a_service_of_an_adapter_file_is_tested_as_it_is_declared(tmp_path: Path) -> None:
    contract = home_with(tmp_path)
    async with AdapterTest.of_service(contract, "enterprises") as call:
        assert (await call.get("/people/1")).json()["name"] == "例甲子天"
        with pytest.raises(KeyError):
            await call.get("/people/fault")
        with pytest.raises(ConflictError):
            await call.get("/people/conflict")
    with pytest.raises(KeyError):
        AdapterTest.of_service(contract, "nothing")


def test_importing_the_adapter_loads_neither_databases_nor_the_bus() -> None:
    program = (
        "import sys\nfrom department_adapters import Adapter, AdapterTest\n"
        "heavy = ('sqlalchemy', 'nats', 'pyarrow', 'python_calamine', 'numpy', 'zeep', 'openapi_spec_validator')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

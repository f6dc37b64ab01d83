"""The checks of `datong adapter check`, from the file to what its answers hold."""

from __future__ import annotations

import statistics
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from department_adapters import (
    ContractError,
    FuzzReport,
    HttpService,
    InspectionError,
    NoFuzzerError,
    SampleCall,
    SoapService,
    SqlService,
    TriedService,
    adapter_file,
    call_samples,
    check_read_only,
    fuzz,
    items_in,
    previews,
    reach,
    read_contract,
    suspicions,
    tried_services,
)
from deploy import adapter_bus_checks
from exchange import UnprocessableError
from gateway.cli.findings import Finding, failed, ok, warning
from registry import Examiner

CALLS = 5
"""Of each operation: enough to tell a slow system from a first call."""
SLOW = 1.0
"""Seconds: a gateway waits 5 if nothing else is registered."""
_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be checked, and how far."""

    bus: bool
    fuzz_seconds: float
    """0: no made-up requests."""
    seed: int
    samples: Sequence[str]
    unsafe: bool


async def findings_of(place: Path, plan: Plan) -> list[Finding]:
    """Every check of an adapter, in the order in which one depends on the other."""
    file = adapter_file(place)
    try:
        contract = read_contract(file)
    except ContractError as error:
        says = str(error).removeprefix(f"{file}: ")
        todo = (
            f"Correct it in {file}. A variable that is not set: export NAME=…",
            f"请修改 {file}。未设置的变量请先 export。",
        )
        return [failed(f"file {file}", says, says, *todo)]
    count = len(contract.services)
    findings = [ok(f"file {file}", f"{count} services", f"{count} 个服务"), *_secrets(file)]
    if plan.bus:
        findings += await adapter_bus_checks.findings_of(contract)
    away: set[str] = set()
    for code, section in contract.services.items():
        if section.contract is not None:
            findings += await _document(code, section.contract)
        if isinstance(section, SqlService):
            findings += await _account(code, section, away)
        elif isinstance(section, HttpService | SoapService):
            findings.append(await _connected(code, section, away))
    try:
        async with tried_services(contract) as services:
            for each in services:
                # A system that answers nothing is not asked two hundred times more.
                seconds = 0.0 if each.code in away else plan.fuzz_seconds / len(services)
                findings += await _service(each, plan, seconds)
    except ContractError as error:
        todo = "Correct what it says, then check again.", "请按提示修改后重新检查。"
        findings.append(failed("services", str(error), str(error), *todo))
    return findings


def _secrets(file: Path) -> Iterator[Finding]:
    """Passwords of database URLs are references."""
    services = tomllib.loads(file.read_text(encoding="utf-8")).get("services", {})
    for code, section in services.items():
        database = str(section.get("database", ""))
        user, at, _ = database.partition("://")[2].rpartition("@")
        password = user.partition(":")[2]
        if at and password and not password.startswith("${"):
            yield failed(
                f"{code}: database",
                "a password stands in the file",
                "文件中含有明文口令",
                f"Write ${{{code.upper().replace('-', '_')}_DB_PASSWORD}} in its place, export that, and change the password.",
                f"请改写为 ${{{code.upper().replace('-', '_')}_DB_PASSWORD}}，以环境变量提供，并更换口令。",
            )


async def _document(code: str, file: Path) -> list[Finding]:
    """The registry would take the contract."""
    name = f"{code}: contract {file.name}"
    try:
        found = await Examiner().examine(file.read_bytes())
    except OSError as error:
        todo = "Put it there, or name another file under contract.", "请放置该文件，或修改 contract。"
        return [failed(name, f"{error.strerror}", f"{error.strerror}", *todo)]
    except UnprocessableError as error:
        at = f" ({error.pointer})" if error.pointer else ""
        todo = error.next_in("en"), error.next_in("zh")
        return [failed(name, f"{error.detail_in('en')}{at}", f"{error.detail_in('zh')}{at}", *todo)]
    count = len(found.description.operations)
    return [ok(name, f"OpenAPI {found.openapi}, {count} operations", f"OpenAPI {found.openapi}，{count} 个操作")]


async def _account(code: str, section: SqlService, away: set[str]) -> list[Finding]:
    """The database's account may read and nothing else."""
    name = f"{code}: account"
    try:
        found = await check_read_only(section.database)
    except InspectionError as error:
        away.add(code)
        return [
            failed(
                name,
                error.problem,
                error.problem_zh,
                "Check host, database, account and password in database, and that this machine may connect.",
                "请检查 database 中的主机、库名、账户和口令，以及网络是否可达。",
            )
        ]
    if not found:
        return [ok(name, "may only read", "只读")]
    findings = []
    for each in found:
        told = each.problem, each.problem_zh, each.fix, each.fix_zh
        findings.append(failed(name, *told) if each.level == "error" else warning(name, *told))
    return findings


async def _connected(code: str, section: HttpService | SoapService, away: set[str]) -> Finding:
    """The system takes a connection."""
    name = f"{code}: connection"
    try:
        place, seconds = await reach(section)
    except (ContractError, OSError, ValueError) as error:
        away.add(code)
        says = str(error) or type(error).__name__
        return failed(
            name,
            says,
            says,
            "Check that the system runs and that adapter.toml names its address; allow_addresses, if it is not public.",
            "请确认业务系统正在运行、adapter.toml 中的地址正确；非公网地址须列入 allow_addresses。",
        )
    shown = f"{place}, {1000 * seconds:.1f} ms"
    return ok(name, shown, shown)


async def _service(service: TriedService, plan: Plan, fuzz_seconds: float) -> list[Finding]:
    """What comes of calling a service."""
    if service.tree is None:
        return [
            warning(
                service.code,
                "no contract, so nothing is called and nothing checked",
                "没有契约，无法试调用和核对",
                'Write an OpenAPI document and name it: contract = "contract.yaml".',
                '请编写 OpenAPI 文档并写明 contract = "contract.yaml"。',
            )
        ]
    calls = await call_samples(service, unsafe=plan.unsafe, times=CALLS, given=plan.samples)
    findings = [finding for call in calls for finding in _call(call)]
    findings += _left_out(service, plan)
    findings += _items(service, calls)
    if fuzz_seconds:
        findings += await _fuzzed(service, plan, fuzz_seconds)
    return findings


def _call(call: SampleCall) -> Iterator[Finding]:
    name = f"{call.service}: {call.operation}"
    if not call.target:
        yield warning(
            name,
            f"not called: no value is known for {call.missing}",
            f"未试调用：缺少 {call.missing} 的取值",
            f"Give an example in the contract, or --sample '{call.operation}' with a value in it.",
            f"请在契约中给出 example，或用 --sample '{call.operation}' 写明取值。",
        )
        return
    asked = f"{call.target} → {call.status}"
    if call.status is None:
        yield failed(
            name,
            f"no answer: {call.trouble}",
            f"没有应答：{call.trouble}",
            "Check that the department's system runs, and where adapter.toml says that it stands.",
            "请确认本部门系统正在运行，并核对 adapter.toml 中的地址。",
        )
    elif call.status in (401, 403):
        todo = "Check the credentials under bearer or headers.", "请检查 bearer 或 headers 中的凭据。"
        yield failed(name, asked, asked, *todo)
    elif call.status >= 500:
        yield failed(name, asked, asked, "Look into the log of the department's system.", "请查看本部门系统的日志。")
    elif call.status >= 300:
        yield warning(
            name,
            f"{asked}, so no record was seen",
            f"{asked}，未取得数据",
            "Give an example that exists in the contract, or --sample.",
            "请在契约中给出存在的示例，或使用 --sample。",
        )
    elif (median := statistics.median(call.seconds)) > SLOW:
        shown = f"{asked}, p50 {median:.1f} s"
        yield warning(
            name,
            shown,
            shown,
            "Speed it up (an index?), or register the service with a longer --timeout.",
            "请优化（如建立索引），或登记服务时加大 --timeout。",
        )
    else:
        shown = f"{asked}, {len(call.body)} B, p50 {1000 * median:.1f} ms, max {1000 * max(call.seconds):.1f} ms"
        yield ok(name, shown, shown)
    if call.faults:
        shown = "; ".join(call.faults[:_NAMED])
        yield failed(
            f"{name}: contract",
            f"the answer does not keep to it: {shown}",
            f"应答不符合契约：{shown}",
            "Correct the contract, or what answers: such answers would be withheld.",
            "请修改契约或业务系统：不符合契约的应答不会被放行。",
        )


def _left_out(service: TriedService, plan: Plan) -> Iterator[Finding]:
    """What was not called, because it may change something."""
    if plan.unsafe:
        return
    safe = service.operations(unsafe=False)
    others = [each.name for each in service.operations(unsafe=True) if each not in safe]
    if others:
        shown = ", ".join(others[:_NAMED]) + (", …" if len(others) > _NAMED else "")
        says = f"not called, as they may change something: {shown}", f"可能改变数据，未试调用：{shown}"
        todo = (
            "`x-datong-safe: true` in the contract says of one that it only reads; --unsafe calls them all.",
            "只读的操作请在契约中写明 `x-datong-safe: true`；--unsafe 会全部调用。",
        )
        yield warning(f"{service.code}: operations", *says, *todo)


def _items(service: TriedService, calls: Sequence[SampleCall]) -> Iterator[Finding]:
    """Masks as they would show what was answered, and items that nobody has thought about."""
    items = service.section.items
    seen: set[str] = set()
    for call in calls:
        if call.status is None or not 200 <= call.status < 300:
            continue
        for each in previews(items, call.body):
            if each.path not in seen:
                shown = f"{each.before} → {each.after}"
                yield ok(f"{service.code}: mask {each.mask} of {each.path}", shown, shown)
        values = items_in(call.body)
        for found in suspicions(items, {path: values[path] for path in values if path not in seen}):
            proposal = found.proposal
            line = f'"{found.path}" = {{ sensitivity = "{proposal.sensitivity}", mask = "{proposal.mask}" }}'
            yield warning(
                f"{service.code}: item {found.path}",
                f"looks like {proposal.why}",
                f"疑为{proposal.why_zh}",
                f"Under [services.{service.code}.items]: {line}",
                f"请在 [services.{service.code}.items] 中写明：{line}",
            )
        for path in call.unlisted:
            if path not in seen:
                yield warning(
                    f"{service.code}: item {path}",
                    "is answered, and not listed under items",
                    "应答中有此项，但 items 未列出",
                    "List it with its sensitivity, or leave it out of the answer.",
                    "请在 items 中列出并标明敏感级别，或不再返回。",
                )
        seen |= values.keys()


async def _fuzzed(service: TriedService, plan: Plan, seconds: float) -> list[Finding]:
    name = f"{service.code}: made-up requests"
    try:
        report = await fuzz(service, seconds=seconds, unsafe=plan.unsafe, seed=plan.seed)
    except NoFuzzerError:
        todo = "pip install 'datong[check]', or --no-fuzz.", "请安装 pip install 'datong[check]'，或使用 --no-fuzz。"
        return [warning(name, "schemathesis is not installed", "未安装 schemathesis", *todo)]
    return list(_of_report(name, report))


def _of_report(name: str, report: FuzzReport) -> Iterator[Finding]:
    for each in report.faults:
        yield failed(
            name,
            f"{each.request}: {each.what}",
            f"{each.request}：{each.what}",
            "Requests like this are allowed by the contract: narrow it, or make the system answer them.",
            "契约允许此类请求：请收紧契约，或修正业务系统。",
        )
    for left in report.left_out:
        todo = "Nothing can be made up from its schema: give examples.", "无法据其模式生成请求：请给出示例。"
        yield warning(name, left, left, *todo)
    if not report.faults and report.cases:
        yield ok(
            name,
            f"{report.cases}, each answered as the contract says; {report.answered} with success",
            f"{report.cases} 个，应答均符合契约，其中成功 {report.answered} 个",
        )

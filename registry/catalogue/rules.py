"""What a resource must fulfil before it is written down. Pure; whether what it refers to exists is for the store to find out.

Rules (R1 to R3 of Decree 809 and of the Measures of 2016, and the 2017 compilation guide):
1. Every resource and every item has a sharing class; an item's may be stricter than its resource's, not laxer.
2. Conditional sharing says on what conditions; no other class may invent any. What is not shared says which provision forbids it.
3. A base resource is shared unconditionally, or says why not. Category 1 of the classification is that of base resources.
4. `other` says what, and nothing else does.
5. A resource is to be had only at services of its own provider.
6. Each fault names its place by a JSON pointer into the resource (`/items/3/path`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from exchange import MASKS, UnprocessableError, item_keys, owner_of, service_id, subsystem_id
from registry.catalogue import resource as kinds
from registry.catalogue.codes import NATIONAL, CodeScheme, classification_in, names_of
from registry.catalogue.resource import Resource, ResourceItem
from registry.patterns import compile_pattern
from registry.records import LEVELS, Access

LONGEST_LINE: Final = 500
LONGEST_TEXT: Final = 4000
MOST_ITEMS: Final = 2000
MOST_ENTRIES: Final = 100
"""Of themes, keywords, linked resources and accesses, each."""
_METHOD: Final = re.compile(r"[A-Z][A-Z-]{0,19}")
_STEP_LENGTHS: Final = {"category": 1, "subcategory": 2, "entry": 3}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a resource."""

    pointer: str
    """RFC 6901, within the resource."""
    rule: str
    problem: str
    problem_zh: str

    def error(self, prefix: str = "") -> UnprocessableError:
        """The fault as an error; `prefix` leads to the resource in what was sent."""
        return UnprocessableError(
            self.rule, problem=self.problem, problem_zh=self.problem_zh, pointer=prefix + self.pointer
        )


def check_resource(resource: Resource, schemes: Sequence[CodeScheme] = NATIONAL) -> None:
    """Return if a resource breaks no rule; raises UnprocessableError for the first one that it breaks."""
    for fault in faults_of(resource, schemes):
        raise fault.error()


def faults_of(resource: Resource, schemes: Sequence[CodeScheme] = NATIONAL) -> Iterator[Fault]:
    """Every fault of a resource, in the order of its members."""
    yield from _code_faults(resource, schemes)
    yield from _provider_faults(resource)
    yield from _text_faults(resource)
    yield from _choice_faults(resource)
    yield from _item_faults(resource)
    yield from _sharing_faults(resource)
    yield from _place_faults(resource)
    yield from _list_faults(resource, schemes)
    for number, access in enumerate(resource.accesses):
        yield from _access_faults(f"/accesses/{number}", access, resource)


def _code_faults(resource: Resource, schemes: Sequence[CodeScheme]) -> Iterator[Fault]:
    classification = classification_in(resource.code, schemes)
    steps = list(_step_faults(resource))
    if classification is None:
        yield _foreign("/code", resource.code, schemes)
    elif not steps and classification not in ("", resource.classification.code):
        yield Fault(
            "/code",
            "resource-code",
            f"The code begins with the classification {classification}, the resource is classified as"
            f" {resource.classification.code}.",
            f"代码中的分类为 {classification}，而信息资源分类为 {resource.classification.code}。",
        )
    yield from steps


def _step_faults(resource: Resource) -> Iterator[Fault]:
    steps = resource.classification
    for name, length in _STEP_LENGTHS.items():
        step = getattr(steps, name)
        if not re.fullmatch(rf"[0-9]{{{length}}}", step.code):
            yield Fault(
                f"/classification/{name}/code",
                "classification",
                f"The {name} of the classification has {length} digit{'s' * (length > 1)}.",
                f"分类的{_STEP_ZH[name]}代码应为 {length} 位数字。",
            )
        yield from _line(f"/classification/{name}/name", step.name)
    if not re.fullmatch(r"[0-9]{0,12}", steps.detail.code):
        yield Fault(
            "/classification/detail/code",
            "classification",
            "The detail of the classification has at most 12 digits.",
            "分类的细目代码应为不超过 12 位的数字。",
        )
    yield from _line("/classification/detail/name", steps.detail.name, empty=not steps.detail.code)


_STEP_ZH: Final = {"category": "类", "subcategory": "项", "entry": "目"}


def _provider_faults(resource: Resource) -> Iterator[Fault]:
    try:
        subsystem_id(resource.provider)
    except ValueError:
        yield Fault(
            "/provider",
            "provider",
            "The provider is not instance/class/member/subsystem.",
            "提供方不是 实例/类别/成员代码/子系统 的形式。",
        )


def _text_faults(resource: Resource) -> Iterator[Fault]:
    yield from _line("/name", resource.name)
    yield from _line("/name_en", resource.name_en, empty=True)
    yield from _text("/abstract", resource.abstract)
    yield from _text("/abstract_en", resource.abstract_en, empty=True)
    yield from _text("/openness_condition", resource.openness_condition, empty=True)
    if resource.openness_condition and not resource.open_to_public:
        yield Fault(
            "/openness_condition",
            "openness",
            "What is not open to the public has no condition of openness.",
            "不向社会开放的资源不应填写开放条件。",
        )


def _choice_faults(resource: Resource) -> Iterator[Fault]:
    yield from _choice("/format", resource.format, kinds.RESOURCE_FORMATS)
    yield from _other("/format_other", resource.format, resource.format_other, "format", "格式")
    yield from _choice("/sharing_class", resource.sharing_class, kinds.SHARING_CLASSES)
    yield from _choice("/mode", resource.mode, kinds.SHARING_MODES)
    yield from _choice("/update_cycle", resource.update_cycle, kinds.UPDATE_CYCLES)
    yield from _other("/update_cycle_other", resource.update_cycle, resource.update_cycle_other, "cycle", "更新周期")


def _item_faults(resource: Resource) -> Iterator[Fault]:
    if not 0 < len(resource.items) <= MOST_ITEMS:
        yield Fault(
            "/items",
            "items",
            f"A resource has between 1 and {MOST_ITEMS} items.",
            f"信息资源应有 1 至 {MOST_ITEMS} 个信息项。",
        )
    seen: dict[str, int] = {}
    for number, item in enumerate(resource.items):
        place = f"/items/{number}"
        yield from _path_faults(f"{place}/path", item.path)
        first = seen.setdefault(item.path, number)
        if first != number:
            yield Fault(
                f"{place}/path",
                "item-path",
                f"The path is that of item {first} already.",
                f"该路径与第 {first + 1} 个信息项重复。",
            )
        yield from _line(f"{place}/name", item.name)
        yield from _line(f"{place}/name_en", item.name_en, empty=True)
        yield from _choice(f"{place}/data_type", item.data_type, kinds.DATA_TYPES)
        if not 0 <= item.length < 1 << 31:
            yield Fault(
                f"{place}/length", "length", "A length is a whole number from 0.", "数据长度应为不小于 0 的整数。"
            )
        yield from _choice(f"{place}/sensitivity", item.sensitivity, kinds.SENSITIVITIES)
        yield from _choice(f"{place}/update_cycle", item.update_cycle, ("", *kinds.UPDATE_CYCLES))
        yield from _choice(f"{place}/mask", item.mask, ("", *MASKS))
        yield from _choice(f"{place}/sharing_class", item.sharing_class, ("", *kinds.SHARING_CLASSES))
        yield from _laxer(place, item, resource)


def _path_faults(pointer: str, path: str) -> Iterator[Fault]:
    if not 0 < len(path) <= LONGEST_LINE:
        yield Fault(
            pointer,
            "item-path",
            f"An item path has 1 to {LONGEST_LINE} characters.",
            f"信息项路径应为 1 至 {LONGEST_LINE} 个字符。",
        )
        return
    try:
        item_keys(path)
    except ValueError as error:
        zh = "信息项路径由以点号连接的键组成，键中的 . = * \\ 须加反斜线转义。"
        yield Fault(pointer, "item-path", f"{str(error)[:300]}.", zh)


def _laxer(place: str, item: ResourceItem, resource: Resource) -> Iterator[Fault]:
    order = kinds.SHARING_CLASSES
    if item.sharing_class not in order or resource.sharing_class not in order:
        return
    if order.index(item.sharing_class) < order.index(resource.sharing_class):
        yield Fault(
            f"{place}/sharing_class",
            "item-class",
            f"The item is {item.sharing_class} in a resource that is {resource.sharing_class}: it may be stricter, not laxer.",
            "信息项的共享类型只能严于、不能宽于信息资源的共享类型。",
        )


def _sharing_faults(resource: Resource) -> Iterator[Fault]:
    classes = {resource.class_of(item) for item in resource.items} | {resource.sharing_class}
    if "conditional" in classes:
        yield from _text(
            "/conditions",
            resource.conditions,
            why="conditional sharing says on what conditions",
            zh="有条件共享须注明共享条件",
        )
    elif resource.conditions:
        yield Fault(
            "/conditions",
            "conditions",
            "Only conditional sharing has conditions; none may be added to what the others are.",
            "只有有条件共享的资源可以设置共享条件。",
        )
    needed = "not-shared" in classes
    yield from _text(
        "/legal_basis",
        resource.legal_basis,
        empty=not needed,
        why="what is not shared says which provision forbids it",
        zh="不予共享须注明法律、行政法规或国务院文件依据",
    )
    if resource.classification.category.code == "1" and not resource.base_resource:
        yield Fault(
            "/base_resource",
            "base-resource",
            "Category 1 of the classification is that of base resources.",
            "分类为基础信息资源（类代码 1）的，应标明为基础信息资源。",
        )
    yield from _text("/base_exception", resource.base_exception, empty=True)
    freely = resource.sharing_class == "unconditional"
    if resource.base_resource and not freely and not resource.base_exception:
        yield Fault(
            "/sharing_class",
            "base-resource",
            "A base resource is shared unconditionally; if not, base_exception says why.",
            "基础信息资源应无条件共享；否则须填写例外理由（base_exception）。",
        )
    if resource.base_exception and (freely or not resource.base_resource):
        yield Fault(
            "/base_exception",
            "base-resource",
            "An exception is for a base resource that is not shared unconditionally.",
            "仅当基础信息资源不能无条件共享时才填写例外理由。",
        )


def _place_faults(resource: Resource) -> Iterator[Fault]:
    yield from _choice("/level", resource.level, LEVELS)
    if resource.division and not re.fullmatch(r"[0-9]{6}", resource.division):
        yield Fault(
            "/division",
            "division",
            "A division code has six digits (GB/T 2260).",
            "行政区划代码应为 6 位数字（GB/T 2260）。",
        )


def _list_faults(resource: Resource, schemes: Sequence[CodeScheme]) -> Iterator[Fault]:
    for name in ("themes", "keywords", "linked", "accesses"):
        entries: tuple[object, ...] = getattr(resource, name)
        if len(entries) > MOST_ENTRIES:
            yield Fault(
                f"/{name}", name, f"There may be at most {MOST_ENTRIES} entries.", f"最多可有 {MOST_ENTRIES} 项。"
            )
        for number, entry in enumerate(entries):
            if entry in entries[:number]:
                yield Fault(f"/{name}/{number}", name, "The entry is there already.", "该项重复。")
    for name in ("themes", "keywords"):
        for number, text in enumerate(getattr(resource, name)):
            yield from _line(f"/{name}/{number}", text)
    for number, code in enumerate(resource.linked):
        if code == resource.code:
            yield Fault(
                f"/linked/{number}", "linked", "A resource is not linked to itself.", "关联资源不能是资源本身。"
            )
        elif classification_in(code, schemes) is None:
            yield _foreign(f"/linked/{number}", code, schemes)


def _access_faults(place: str, access: Access, resource: Resource) -> Iterator[Fault]:
    try:
        ours = owner_of(service_id(access.service)) == resource.provider
    except ValueError:
        yield Fault(
            f"{place}/service",
            "access",
            "The service is not instance/class/member/subsystem/service.",
            "服务不是 实例/类别/成员代码/子系统/服务 的形式。",
        )
    else:
        if not ours:
            yield Fault(
                f"{place}/service",
                "access",
                "The service is not one that the provider of the resource offers.",
                "该服务不是本资源提供方的服务。",
            )
    if access.method != "*" and not _METHOD.fullmatch(access.method):
        yield Fault(
            f"{place}/method",
            "access",
            "The method is neither * nor one in capital letters, such as GET.",
            "请求方法应为 * 或大写方法名（如 GET）。",
        )
    try:
        compile_pattern(access.path)
    except ValueError as error:
        yield Fault(f"{place}/path", "path", f"The path pattern cannot be read: {error}.", "路径模式不正确。")


def _foreign(pointer: str, code: str, schemes: Sequence[CodeScheme]) -> Fault:
    known = names_of(schemes)
    return Fault(
        pointer,
        "resource-code",
        f"{code[:80]!r} is no resource code of this mesh (schemes: {known}).",
        f"{code[:80]!r} 不是本平台认可的信息资源代码（编码规则：{known}）。",
    )


def _line(pointer: str, text: str, *, empty: bool = False) -> Iterator[Fault]:
    if len(text) > LONGEST_LINE or not text.isprintable() or text != text.strip() or not (empty or text):
        yield Fault(
            pointer,
            "text",
            f"{'This' if text else 'This is missing: it'} must be one line of at most {LONGEST_LINE} printable characters,"
            " without spaces around it.",
            f"{'' if text else '缺少内容：'}应为单行文本，不超过 {LONGEST_LINE} 个可打印字符，首尾不含空格。",
        )


def _text(
    pointer: str, text: str, *, empty: bool = False, why: str = "it must say something", zh: str = "必须填写"
) -> Iterator[Fault]:
    if not text and not empty:
        yield Fault(
            pointer, pointer.removeprefix("/").replace("_", "-"), f"This is missing: {why}.", f"缺少内容：{zh}。"
        )
    elif len(text) > LONGEST_TEXT or text != text.strip() or not all(part.isprintable() for part in text.split("\n")):
        yield Fault(
            pointer,
            "text",
            f"This must be at most {LONGEST_TEXT} printable characters, without spaces around them.",
            f"应为不超过 {LONGEST_TEXT} 个可打印字符的文本，首尾不含空格。",
        )


def _choice(pointer: str, value: str, choices: Sequence[str]) -> Iterator[Fault]:
    if value not in choices:
        known = ", ".join(choice for choice in choices if choice)
        yield Fault(
            pointer, "choice", f"{value[:40]!r} is not one of {known}.", f"{value[:40]!r} 不是可选值：{known}。"
        )


def _other(pointer: str, chosen: str, text: str, rule: str, zh: str) -> Iterator[Fault]:
    if chosen == "other" and not text:
        yield Fault(pointer, rule, "Say which other one.", f"选择“其他”时须注明{zh}。")
    elif chosen != "other" and text:
        yield Fault(pointer, rule, "Only `other` is described in words.", f"仅在选择“其他”时填写{zh}说明。")
    yield from _line(pointer, text, empty=True)

"""The columns of a catalogue as a workbook: two sheets in the order of the 2017 guide, with what the mesh adds after each. Pure.

One row of the sheet 资源 is a resource; the rows of the sheet 信息项 belong to the resource whose code they begin with. Lists are
written one entry a line within their cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from exchange import MASKS
from registry.catalogue import labels

RESOURCES_SHEET: Final = "资源"
ITEMS_SHEET: Final = "信息项"
NOTES_SHEET: Final = "填写说明"

Kind = Literal["text", "choice", "yes-no", "date", "number", "lines", "accesses"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, and the member of a resource (or item) it holds, by pointer."""

    heading: str
    pointer: str
    kind: Kind = "text"
    needed: bool = False
    choices: Mapping[str, str] | None = None
    """Value -> what it is called in a cell."""
    note: str = ""
    """For the people who fill it in."""
    width: int = 16


def _choice(heading: str, pointer: str, choices: Mapping[str, str], *, needed: bool = False, note: str = "") -> Column:
    return Column(heading, pointer, "choice", needed, choices, note or "可选：" + "、".join(choices.values()))


RESOURCE_COLUMNS: Final = (
    Column("类代码", "/classification/category/code", needed=True, note="1 位数字：1 基础、2 主题、3 部门"),
    Column("类名称", "/classification/category/name", needed=True),
    Column("项代码", "/classification/subcategory/code", needed=True, note="2 位数字"),
    Column("项名称", "/classification/subcategory/name", needed=True),
    Column("目代码", "/classification/entry/code", needed=True, note="3 位数字"),
    Column("目名称", "/classification/entry/name", needed=True),
    Column("细目代码", "/classification/detail/code", note="不超过 12 位数字，可空"),
    Column("细目名称", "/classification/detail/name"),
    Column("信息资源名称", "/name", needed=True, width=30),
    Column("信息资源代码", "/code", needed=True, note="分类代码/顺序号，如 306001/000001", width=20),
    Column("信息资源提供方", "/department/name", note="可空；填写时须与登记名称一致", width=24),
    Column("提供方代码", "/department/uscc", note="统一社会信用代码；可空，填写时须与登记一致", width=22),
    Column("信息资源摘要", "/abstract", needed=True, width=40),
    _choice("信息资源格式", "/format", labels.FORMAT, needed=True),
    Column("其他格式说明", "/format_other", note="仅在格式为“其他”时填写"),
    _choice("共享类型", "/sharing_class", labels.SHARING_CLASS, needed=True),
    Column("共享条件", "/conditions", note="有条件共享时必填", width=30),
    Column("不予共享依据", "/legal_basis", note="不予共享时必填：法律、行政法规或国务院文件依据", width=30),
    _choice("共享方式", "/mode", labels.MODE, needed=True),
    Column("是否向社会开放", "/open_to_public", "yes-no", note="是 或 否"),
    Column("开放条件", "/openness_condition"),
    _choice("更新周期", "/update_cycle", labels.UPDATE_CYCLE, needed=True),
    Column("其他更新周期说明", "/update_cycle_other", note="仅在更新周期为“其他”时填写"),
    Column("发布日期", "/publication_date", "date", note="如 2026-11-23；可空，发布时填当日"),
    Column("关联资源代码", "/linked", "lines", note="每行一个", width=20),
    Column("提供方子系统", "/provider", needed=True, note="实例/类别/成员代码/子系统", width=36),
    Column("子系统名称", "/department/subsystem_name", note="可空；填写时须与登记名称一致"),
    Column("提供方英文名称", "/department/name_en", note="可空；填写时须与登记名称一致"),
    Column("信息资源英文名称", "/name_en", width=30),
    Column("英文摘要", "/abstract_en", width=40),
    Column("是否基础信息资源", "/base_resource", "yes-no", note="是 或 否；类代码为 1 时应为是"),
    Column("基础资源例外理由", "/base_exception", note="基础信息资源不能无条件共享时必填", width=30),
    _choice("层级", "/level", labels.LEVEL, note="可空：同提供方。可选：" + "、".join(labels.LEVEL.values())),
    Column("行政区划代码", "/division", note="6 位数字（GB/T 2260）；可空：同提供方"),
    Column("主题", "/themes", "lines", note="每行一个"),
    Column("关键词", "/keywords", "lines", note="每行一个"),
    Column(
        "服务接口",
        "/accesses",
        "accesses",
        note="每行一个：方法 路径 服务标识，如 GET /enterprises/{uscc} CN/GOV/…",
        width=50,
    ),
    Column("是否双人审批", "/two_persons", "yes-no", note="是 或 否"),
)

ITEM_CODE: Final = Column("信息资源代码", "", needed=True, note="所属信息资源的代码", width=20)
ITEM_COLUMNS: Final = (
    ITEM_CODE,
    Column("信息项名称", "/name", needed=True, width=24),
    _choice("数据类型", "/data_type", labels.DATA_TYPE, needed=True),
    Column("数据长度", "/length", "number", note="0 或空：不限"),
    _choice("共享类型", "/sharing_class", labels.SHARING_CLASS, note="可空：同信息资源；只能更严"),
    _choice("更新周期", "/update_cycle", labels.UPDATE_CYCLE, note="可空：同信息资源"),
    Column("信息项英文名称", "/name_en", width=24),
    Column("应答路径", "/path", needed=True, note="应答 JSON 中的键，以点号连接", width=24),
    _choice("敏感程度", "/sensitivity", labels.SENSITIVITY, needed=True),
    _choice("建议脱敏方式", "/mask", {name: name for name in MASKS}, note="可空。可选：" + "、".join(MASKS)),
)


def column_letters(index: int) -> str:
    """A column as cells are named: 0 is A, 26 is AA."""
    letters = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        letters = chr(65 + digit) + letters
    return letters


def cell_name(sheet: str, row: int, column: int) -> str:
    """A cell as people name it; `row` and `column` count from 0."""
    return f"{sheet}!{column_letters(column)}{row + 1}"

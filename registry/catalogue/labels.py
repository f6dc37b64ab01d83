"""What the values of a resource are called in Chinese, as the 2017 guide and its tables call them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SHARING_CLASS: Final = {"unconditional": "无条件共享", "conditional": "有条件共享", "not-shared": "不予共享"}
SENSITIVITY: Final = {
    "public": "公开",
    "internal": "内部",
    "personal": "个人信息",
    "sensitive-personal": "敏感个人信息",
}
FORMAT: Final = {
    "electronic-file": "电子文件",
    "spreadsheet": "电子表格",
    "database": "数据库",
    "graphics": "图形图像",
    "streaming": "流媒体",
    "other": "其他",
}
MODE: Final = {
    "query-interface": "查询接口",
    "verification-interface": "核验接口",
    "database-table": "库表",
    "file": "文件",
    "medium": "介质",
}
UPDATE_CYCLE: Final = {
    "real-time": "实时",
    "daily": "每日",
    "weekly": "每周",
    "monthly": "每月",
    "quarterly": "每季度",
    "yearly": "每年",
    "other": "其他",
}
DATA_TYPE: Final = {
    "string": "字符型C",
    "number": "数值型N",
    "money": "货币型Y",
    "date": "日期型D",
    "datetime": "日期时间型T",
    "boolean": "逻辑型L",
    "text": "备注型M",
    "binary": "通用型G",
    "double": "双精度型B",
    "integer": "整型I",
    "float": "浮点型F",
    "object": "对象",
    "array": "数组",
}
LEVEL: Final = {
    "national": "国家级",
    "province": "省级",
    "city": "市级",
    "county": "县级",
    "township": "乡级",
}
STATE: Final = {"draft": "草稿", "published": "已发布", "withdrawn": "已撤销"}
YES_NO: Final = {True: "是", False: "否"}


_BY_MEMBER: Final[Mapping[str, Mapping[str, str]]] = {
    "sharing_class": SHARING_CLASS,
    "sensitivity": SENSITIVITY,
    "format": FORMAT,
    "mode": MODE,
    "update_cycle": UPDATE_CYCLE,
    "data_type": DATA_TYPE,
    "level": LEVEL,
    "state": STATE,
}


def resource_labels(member: str) -> Mapping[str, str]:
    """What the values of a member of a resource, an item or an entry are called."""
    return _BY_MEMBER[member]

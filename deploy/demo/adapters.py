"""The `adapter.toml` of the two departments that answer, as text: what a department would write for itself.

The files go to `<data>/adapters/<key>/adapter.toml`; paths in them are relative to that folder, so that the data folder
can be moved. Only the addresses of the bus and of the department's own system are filled in.
"""

from __future__ import annotations

import json
from string import Template

from deploy.demo.identities import CIVIL_SUBSYSTEM, TAX_SUBSYSTEM

_HEAD = """\
[adapter]
name = "$name"
subsystem = "$subsystem"
description = "$description"

[bus]
url = $bus_url
certificate = "../../pki/$name.crt"
key = "../../pki/$name.key"
trust_anchors = "../../pki/ca.pem"
gateways = "../../pki/gateway.crt"
callers = "../../pki/callers.pem"
renewal_url = $renewal_url
"""

_TAX = """
# 税务局自有的 HTTP 接口；请求原样转发，路径不变。
# The bureau's own HTTP API; requests are passed on as they are.
[services.enterprises]
source = "http"
base_url = $base_url
"""

# Portable between SQLite and PostgreSQL; the cast tells PostgreSQL the type of a parameter that may be NULL.
_CIVIL = """
# 行政区划（GB/T 2260）。每个操作是一条参数化查询，只读。
# Administrative divisions. Each operation is one parameterised query, read-only.
[services.divisions]
source = "sql"
database = $database

[[services.divisions.operations]]
path = "/divisions/{code}"
query = "SELECT code, name, level, kind, parent FROM divisions WHERE code = :code"

# 缺省 parent 时返回省级行政区划。 Without `parent`: the provinces.
[[services.divisions.operations]]
path = "/divisions"
query = '''
SELECT code, name, level, kind, parent FROM divisions
WHERE coalesce(parent, '') = coalesce(CAST(:parent AS VARCHAR(6)), '') ORDER BY code
'''
result = "many"
optional = ["parent"]

# 居民信息与婚姻登记状态；身份号码末位的 x 不分大小写。
# Residents and their marital status; the final x of a number may be small.
[services.residents]
source = "sql"
database = $database

[[services.residents.operations]]
path = "/residents/{number}"
query = '''
SELECT number, name, sex, birth_date, household_number, household_relation, address_division, address
FROM residents WHERE number = upper(:number)
'''

[[services.residents.operations]]
path = "/residents/{number}/marriage"
query = '''
SELECT number, marital_status, spouse_number, married_on FROM residents WHERE number = upper(:number)
'''
"""


def tax_adapter(*, bus_url: str, base_url: str, renewal_url: str = "") -> str:
    """The tax bureau's file.

    Args:
        bus_url: NATS server, `tls://host:port`.
        base_url: The bureau's own API, `http://host:port`.
        renewal_url: Where the adapter renews its certificate; empty: nowhere.
    """
    values = {"bus_url": bus_url, "base_url": base_url, "renewal_url": renewal_url}
    return _text(_HEAD + _TAX, "tax", TAX_SUBSYSTEM, "示例市税务局适配器", **values)


def civil_adapter(
    *, bus_url: str, database: str = "sqlite:///../../backends/civil.sqlite", renewal_url: str = ""
) -> str:
    """The civil-affairs bureau's file.

    Args:
        bus_url: NATS server, `tls://host:port`.
        database: `sqlite:///PATH`, relative to the adapter's folder, or `postgresql://...`.
        renewal_url: As for the tax bureau.
    """
    values = {"bus_url": bus_url, "database": database, "renewal_url": renewal_url}
    return _text(_HEAD + _CIVIL, "civil", CIVIL_SUBSYSTEM, "示例市民政局适配器", **values)


def _text(template: str, name: str, subsystem: str, description: str, **values: str) -> str:
    # A JSON string is a TOML basic string.
    quoted = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
    return Template(template).substitute(name=name, subsystem=subsystem, description=description, **quoted)

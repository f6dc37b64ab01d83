"""The `adapter.toml` of the departments that answer, as text: what a department would write for itself.

The files go to `<data>/adapters/<key>/adapter.toml`; paths in them are relative to that folder, so that the data folder
can be moved. Only the addresses of the bus and of the department's own system are filled in.
"""

from __future__ import annotations

import json
from string import Template

from deploy.demo.identities import CIVIL_SUBSYSTEM, HEALTH_SUBSYSTEM, LAND_SUBSYSTEM, TAX_SUBSYSTEM

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
# 地址不是公网地址时，须在此列出。 Addresses that are not public are listed here.
allow_addresses = ["127.0.0.0/8"]
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


_HEALTH = """
# 出生医学证明：一个工作簿，按公民身份号码查询。未列出的列不会离开本部门。
# Birth certificates: one workbook, asked by citizen number. Columns that are not listed never leave.
[services.births]
source = "files"
files = "../../backends/health/births*.xlsx"
sheet = "出生医学证明"
header = 3
table = "births"
key = "number"
columns.certificate = "证明编号"
columns.number = "公民身份号码"
columns.name = "姓名"
columns.sex = "性别"
columns.born_on = "出生日期"
columns.mother_number = "母亲公民身份号码"
columns.father_number = "父亲公民身份号码"
types.born_on = "date"

# 预防接种记录：每年一个 CSV 文件，新增或更换文件后自动生效。
# Vaccinations: one CSV a year; files that are added or replaced count by themselves.
[services.vaccinations]
source = "files"
files = "../../backends/health/vaccinations-*.csv"
table = "vaccinations"
key = "record"
listing = true
required = ["number"]
columns.record = "接种编号"
columns.number = "公民身份号码"
columns.vaccine = "疫苗"
columns.dose = "剂次"
columns.given_on = "接种日期"
columns.site = "接种单位"
types.dose = "integer"
types.given_on = "date"
"""

_LAND = """
# 不动产登记系统只有 SOAP 接口；WSDL 中的操作在此以 JSON 提供。故障名称对应的状态码在此声明，故障文字不会离开本部门。
# The register of real estate speaks SOAP only; operations of its WSDL are offered as JSON. Faults that callers may know of are
# listed with their status; what they say in words never leaves.
[services.properties]
source = "soap"
wsdl = "land_bureau.wsdl"
address = $address
allow_addresses = ["127.0.0.0/8"]

[services.properties.faults]
PropertyNotFound = 404
InvalidNumber = 400

[[services.properties.operations]]
path = "/properties/{unit_number}"
soap = "GetProperty"
method = "GET"
parameters.unit_number = "unitNumber"
result = "property"

[[services.properties.operations]]
path = "/owners/{number}/properties"
soap = "FindByOwner"
method = "GET"
parameters.number = "ownerNumber"
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


def health_adapter(*, bus_url: str, renewal_url: str = "") -> str:
    """The health bureau's file; arguments as for the tax bureau."""
    values = {"bus_url": bus_url, "renewal_url": renewal_url}
    return _text(_HEAD + _HEALTH, "health", HEALTH_SUBSYSTEM, "示例市卫生健康局适配器", **values)


def land_adapter(*, bus_url: str, address: str, renewal_url: str = "") -> str:
    """The natural-resources bureau's file; it stands beside the bureau's WSDL.

    Args:
        address: Of the bureau's own SOAP service, `http://host:port/path`.
        bus_url, renewal_url: As for the tax bureau.
    """
    values = {"bus_url": bus_url, "address": address, "renewal_url": renewal_url}
    return _text(_HEAD + _LAND, "land", LAND_SUBSYSTEM, "示例市自然资源局适配器", **values)


def _text(template: str, name: str, subsystem: str, description: str, **values: str) -> str:
    # A JSON string is a TOML basic string.
    quoted = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
    return Template(template).substitute(name=name, subsystem=subsystem, description=description, **quoted)

from department_adapters.answers import Ledger
from department_adapters.contract import AdapterContract, ContractError, read_contract
from department_adapters.discovery import ServiceCounts
from department_adapters.http.source import HttpSource
from department_adapters.runner import Runner
from department_adapters.serve import serve_adapter
from department_adapters.source import Source, SourceAnswer, SourceRequest
from department_adapters.sql.source import SqlOperation, SqlSource

__all__ = [
    "AdapterContract",
    "ContractError",
    "HttpSource",
    "Ledger",
    "Runner",
    "ServiceCounts",
    "Source",
    "SourceAnswer",
    "SourceRequest",
    "SqlOperation",
    "SqlSource",
    "read_contract",
    "serve_adapter",
]

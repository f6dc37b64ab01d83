from department_adapters.answers import Ledger
from department_adapters.checking.contents import items_in, previews, suspicions
from department_adapters.checking.fuzzing import FuzzReport, NoFuzzerError, fuzz
from department_adapters.checking.reaching import reach
from department_adapters.checking.trying import SampleCall, TriedService, call_samples, sample_calls, tried_services
from department_adapters.contract import AdapterContract, adapter_file, read_contract
from department_adapters.discovery import ServiceCounts
from department_adapters.files.source import FilesSource
from department_adapters.http.section import HttpService
from department_adapters.http.source import HttpSource
from department_adapters.runner import Runner
from department_adapters.scaffold.draft import AdapterDraft, ItemDraft, OperationDraft, ScaffoldError, SourceDraft
from department_adapters.scaffold.files import adapter_files
from department_adapters.scaffold.folder import write_adapter_folder
from department_adapters.scaffold.from_database import draft_from_database
from department_adapters.scaffold.from_files import draft_from_files
from department_adapters.scaffold.from_openapi import draft_from_openapi, openapi_base_url
from department_adapters.scaffold.from_wsdl import draft_from_wsdl, wsdl_address
from department_adapters.scaffold.sensitivity import propose as propose_sensitivity
from department_adapters.sdk import Adapter
from department_adapters.section import ContractError
from department_adapters.serve import serve_adapter
from department_adapters.soap.openapi import openapi_of
from department_adapters.soap.operation import SoapOperation
from department_adapters.soap.section import SoapService
from department_adapters.soap.source import SoapSource
from department_adapters.soap.wsdl import load_wsdl
from department_adapters.source import Source, SourceAnswer, SourceRequest
from department_adapters.sql.inspection import InspectionError, check_read_only
from department_adapters.sql.operation import SqlOperation
from department_adapters.sql.section import SqlService
from department_adapters.sql.source import SqlSource
from department_adapters.testing import AdapterTest, TestedAnswer
from department_adapters.testing_bus import BusTest

__all__ = [
    "Adapter",
    "AdapterContract",
    "AdapterDraft",
    "AdapterTest",
    "BusTest",
    "ContractError",
    "FilesSource",
    "FuzzReport",
    "HttpService",
    "HttpSource",
    "InspectionError",
    "ItemDraft",
    "Ledger",
    "NoFuzzerError",
    "OperationDraft",
    "Runner",
    "SampleCall",
    "ScaffoldError",
    "ServiceCounts",
    "SoapOperation",
    "SoapService",
    "SoapSource",
    "Source",
    "SourceAnswer",
    "SourceDraft",
    "SourceRequest",
    "SqlOperation",
    "SqlService",
    "SqlSource",
    "TestedAnswer",
    "TriedService",
    "adapter_file",
    "adapter_files",
    "call_samples",
    "check_read_only",
    "draft_from_database",
    "draft_from_files",
    "draft_from_openapi",
    "draft_from_wsdl",
    "fuzz",
    "items_in",
    "load_wsdl",
    "openapi_base_url",
    "openapi_of",
    "previews",
    "propose_sensitivity",
    "reach",
    "read_contract",
    "sample_calls",
    "serve_adapter",
    "suspicions",
    "tried_services",
    "write_adapter_folder",
    "wsdl_address",
]

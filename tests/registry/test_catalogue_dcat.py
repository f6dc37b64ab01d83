"""The catalogue as DCAT-AP 3: judged by a SHACL engine, and read back as RDF.

The profile's own shapes are not part of this project. Where `../shared/vectors/dcat_ap` holds them, they judge, too; the
rules of the profile as `tests/registry/dcat_ap.py` has them always do.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from pyshacl import validate
from rdflib import Graph, Literal, URIRef
from rdflib.namespace import DCAT, DCTERMS, FOAF, RDF, SH, SKOS

from registry import (
    SHARING_CLASSES,
    CatalogueEntry,
    Department,
    Publisher,
    Resource,
    dcat_catalogue,
    dcat_resource,
)
from registry.catalogue.resource import RESOURCE_FORMATS, SHARING_MODES, UPDATE_CYCLES
from tests.registry import dcat_ap
from tests.registry.catalogue_kit import CODE, resource
from tests.registry.conftest import ENTERPRISES, TAX

# What rdflib says of its own parser.
pytestmark = pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning")

PUBLISHED = Path(__file__).parents[3] / "shared" / "vectors" / "dcat_ap"
"""The files of SEMICeu/DCAT-AP releases/3.0.1/html/shacl, CC BY 4.0."""
BASE = "https://gateway.example:8443"
EU = "http://publications.europa.eu/resource/authority/"
BUREAU = Department(
    subsystem=TAX,
    subsystem_name="税务征管系统",
    name="示例市税务局",
    name_en="Example City Tax Bureau",
    uscc="11990000000001011Q",
)
MESH = Publisher(identifier="CN/GOV/1199000000000102XG", name="示例市大数据局", name_en="Big Data Bureau")
DATASET = URIRef(f"{BASE}/v1/resources/{CODE}")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def entry(**changes: Any) -> tuple[CatalogueEntry, Department]:
    changes = {"publication_date": "2026-05-04", "level": "city", "division": "450100", **changes}
    content: Resource = resource(**changes)
    known = CatalogueEntry(
        code=content.code,
        provider=TAX,
        state="published",
        number=2,
        published=content,
        draft=None,
        changed_at=datetime(2026, 5, 4, 12, tzinfo=UTC),
    )
    return known, BUREAU


VARIETY: list[dict[str, Any]] = [
    {},
    {
        "code": "306002/000002",
        "name_en": "",
        "abstract_en": "",
        "division": "",
        "level": "",
        "themes": [],
        "keywords": [],
    },
    {"code": "306002/000003", "accesses": [], "mode": "file", "linked": [CODE], "open_to_public": True},
    {"code": "306002/000004", "accesses": [], "mode": "medium", "format": "other", "format_other": "磁带"},
    {
        "code": "306002/000005",
        "sharing_class": "not-shared",
        "conditions": "",
        "legal_basis": "《保守国家秘密法》",
        "name": '引号" 反斜杠\\ <b> 与 & 号',
        "themes": ["a b/c?d#e%", "税"],
    },
    {
        "code": "306002/000006",
        "accesses": [
            {"service": ENTERPRISES, "method": "GET", "path": "/a"},
            {"service": ENTERPRISES, "method": "GET", "path": "/b"},
            {"service": f"{TAX}/It's_(1+1)=2,-or.v2?", "method": "*", "path": "**"},
        ],
    },
    *(
        {"code": f"306002/1{n}", "update_cycle": each, "update_cycle_other": "闰年" if each == "other" else ""}
        for n, each in enumerate(UPDATE_CYCLES)
    ),
    *(
        {"code": f"306002/2{n}", "format": each, "format_other": "x" if each == "other" else "", "accesses": []}
        for n, each in enumerate(RESOURCE_FORMATS)
    ),
    *({"code": f"306002/3{n}", "mode": each} for n, each in enumerate(SHARING_MODES)),
]


def whole() -> dict[str, Any]:
    return dcat_catalogue([entry(**changes) for changes in VARIETY], MESH, BASE)


def graph_of(document: dict[str, Any]) -> Graph:
    return Graph().parse(data=json.dumps(document), format="json-ld")


def violations(document: dict[str, Any], shapes: Graph) -> list[tuple[str, str]]:
    """Focus node and path of each violation; warnings are no violations."""
    conforms, report, _ = validate(graph_of(document), shacl_graph=shapes, allow_warnings=True, allow_infos=True)
    assert isinstance(report, Graph)
    if conforms:
        return []
    found = report.subjects(SH.resultSeverity, SH.Violation)
    return sorted((str(report.value(each, SH.focusNode)), str(report.value(each, SH.resultPath))) for each in found)


def published_shapes(*names: str) -> Graph:
    if not PUBLISHED.is_dir():
        pytest.skip(f"the published shapes are not on this machine ({PUBLISHED.name})")
    shapes = Graph()
    for name in names:
        shapes.parse(PUBLISHED / name, format="turtle")
    return shapes


DOCUMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "the whole catalogue": whole,
    "an empty catalogue": lambda: dcat_catalogue([], MESH, BASE),
    "one resource": lambda: dcat_resource(*entry(), BASE),
    "one resource without anything optional": lambda: dcat_resource(*entry(**VARIETY[1]), BASE),
}


@pytest.mark.parametrize("what", DOCUMENTS)
def test_every_export_keeps_the_rules_of_the_profile(what: str) -> None:
    assert violations(DOCUMENTS[what](), dcat_ap.shapes()) == []


@pytest.mark.parametrize("what", DOCUMENTS)
@pytest.mark.parametrize(
    "names",
    [("shapes.ttl", "range.ttl", "deprecateduris.ttl"), ("shapes_recommended.ttl",), ("mdr-vocabularies.shape.ttl",)],
    ids=lambda names: names[0],
)
def test_every_export_passes_the_published_shapes(what: str, names: tuple[str, ...]) -> None:
    assert violations(DOCUMENTS[what](), published_shapes(*names)) == []


BROKEN: dict[str, tuple[str, str]] = {
    "a dataset without a title": ("dcat:Dataset", "dct:title"),
    "a dataset without a description": ("dcat:Dataset", "dct:description"),
    "a catalogue without a publisher": ("dcat:Catalog", "dct:publisher"),
    "a catalogue without a title": ("dcat:Catalog", "dct:title"),
    "a distribution without an address": ("dcat:Distribution", "dcat:accessURL"),
    "a service without an endpoint": ("dcat:DataService", "dcat:endpointURL"),
    "a service without a title": ("dcat:DataService", "dct:title"),
    "a record about nothing": ("dcat:CatalogRecord", "foaf:primaryTopic"),
    "a record without its date": ("dcat:CatalogRecord", "dct:modified"),
    "an agent without a name": ("foaf:Agent", "foaf:name"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_the_rules_notice_what_is_missing_as_the_published_shapes_do(what: str) -> None:
    """Otherwise keeping them would say nothing."""
    kind, member = BROKEN[what]
    document = dcat_catalogue([entry()], MESH, BASE)
    for node in document["@graph"]:
        if kind in node["@type"]:
            del node[member]
    assert violations(document, dcat_ap.shapes())
    if PUBLISHED.is_dir():
        assert violations(document, published_shapes("shapes.ttl", "range.ttl"))


@pytest.mark.parametrize("member", ["dct:publisher", "dct:accessRights", "dct:accrualPeriodicity", "dcat:distribution"])
def test_the_rules_notice_a_reference_to_something_else(member: str) -> None:
    document = dcat_catalogue([entry()], MESH, BASE)
    for node in document["@graph"]:
        if "dcat:Dataset" in node["@type"]:
            node[member] = {"@id": "https://example.org/other"}
    assert violations(document, dcat_ap.shapes())
    if PUBLISHED.is_dir():
        assert violations(document, published_shapes("shapes.ttl", "range.ttl"))


def test_the_crosswalk_says_what_the_resource_says() -> None:
    graph = graph_of(dcat_resource(*entry(themes=["税务"], keywords=["欠税"]), BASE))
    value = graph.value
    assert {str(each.language) for each in graph.objects(DATASET, DCTERMS.title) if isinstance(each, Literal)} == {
        "zh",
        "en",
    }
    assert Literal("欠税信息", lang="zh") in set(graph.objects(DATASET, DCTERMS.title))
    assert value(DATASET, DCTERMS.identifier) == Literal(CODE)
    assert value(DATASET, DCTERMS.accrualPeriodicity) == URIRef(f"{EU}frequency/DAILY")
    assert value(DATASET, DCTERMS.accessRights) == URIRef(f"{EU}access-right/RESTRICTED")
    assert set(graph.objects(DATASET, DCTERMS.language)) == {URIRef(f"{EU}language/ZHO"), URIRef(f"{EU}language/ENG")}
    assert value(DATASET, DCTERMS.issued) == Literal(date(2026, 5, 4))
    keywords = {str(each) for each in graph.objects(DATASET, DCAT.keyword)}
    assert {"欠税", "欠缴税额", "法定代表人"} <= keywords
    agent = value(DATASET, DCTERMS.publisher)
    assert set(graph.objects(agent, FOAF.name)) == {Literal(BUREAU.name, lang="zh"), Literal(BUREAU.name_en, lang="en")}
    assert value(agent, DCTERMS.identifier) == Literal(BUREAU.uscc)
    distribution = value(DATASET, DCAT.distribution)
    endpoint = URIRef(f"{BASE}/r1/{ENTERPRISES}")
    assert value(distribution, DCAT.accessURL) == endpoint
    service = value(distribution, DCAT.accessService)
    assert value(service, DCAT.endpointURL) == endpoint
    assert value(service, DCAT.servesDataset) == DATASET
    rights = value(value(distribution, DCTERMS.rights), URIRef("http://www.w3.org/2000/01/rdf-schema#label"))
    assert str(rights) == "有条件共享；用于资格核查"
    record = URIRef(f"{DATASET}#record")
    assert value(record, FOAF.primaryTopic) == DATASET
    assert str(value(record, DCTERMS.modified)) == "2026-05-04T12:00:00+00:00"


@pytest.mark.parametrize("sharing_class", SHARING_CLASSES)
def test_shared_between_departments_is_not_open_to_the_public(sharing_class: str) -> None:
    changes = {"conditions": "用于核查" if sharing_class == "conditional" else "", "legal_basis": "《档案法》"}
    for public, expected in ((False, {"not-shared": "NON_PUBLIC"}.get(sharing_class, "RESTRICTED")), (True, "PUBLIC")):
        one = entry(sharing_class=sharing_class, open_to_public=public, **changes)
        graph = graph_of(dcat_resource(*one, BASE))
        assert graph.value(DATASET, DCTERMS.accessRights) == URIRef(f"{EU}access-right/{expected}")


def test_a_catalogue_lists_each_dataset_record_and_service_once() -> None:
    document = whole()
    identifiers = [node["@id"] for node in document["@graph"]]
    assert len(identifiers) == len(set(identifiers))
    graph = graph_of(document)
    catalogue = graph.value(predicate=RDF.type, object=DCAT.Catalog)
    for member, kind in (
        (DCAT.dataset, DCAT.Dataset),
        (DCAT.record, DCAT.CatalogRecord),
        (DCAT.service, DCAT.DataService),
    ):
        assert set(graph.objects(catalogue, member)) == set(graph.subjects(RDF.type, kind))
    assert len(set(graph.subjects(RDF.type, DCAT.Dataset))) == len(VARIETY)
    assert len(set(graph.subjects(RDF.type, DCAT.DataService))) == 2
    assert all(graph.value(each, SKOS.prefLabel) is not None for each in graph.subjects(RDF.type, SKOS.Concept))
    frequencies = {str(each).rpartition("/")[2] for each in graph.objects(None, DCTERMS.accrualPeriodicity)}
    assert frequencies == {"UPDATE_CONT", "DAILY", "WEEKLY", "MONTHLY", "QUARTERLY", "ANNUAL", "OTHER"}


def test_every_identifier_is_an_absolute_iri() -> None:
    for subject in graph_of(whole()).all_nodes():
        if isinstance(subject, URIRef):
            assert str(subject).startswith(("https://", "http://"))
            assert not set(str(subject)) & set(' <>"{}|\\^`')

"""What DCAT-AP 3 demands of a catalogue, as a table, and as SHACL shapes made from it.

The table holds the mandatory properties, the most there may be of one, what kind of value each has, and the class of
what it refers to, for the classes that our export uses; written from the profile's own tables (version 3.0.1).
"""

from __future__ import annotations

from typing import Final

from rdflib import BNode, Graph, Literal, Namespace, URIRef
from rdflib.collection import Collection
from rdflib.namespace import DCAT, DCTERMS, FOAF, RDF, SH, SKOS, XSD

ADMS: Final = Namespace("http://www.w3.org/ns/adms#")
IRI, NODE, TEXT, TIME = "iri", "node", "text", "time"
MANY: Final = None

Property = tuple[URIRef, int, int | None, str, URIRef | None]
"""Path, least, most, kind of value, class of the value."""

_TITLED: Final[list[Property]] = [
    (DCTERMS.title, 1, MANY, TEXT, None),
    (DCTERMS.description, 1, MANY, TEXT, None),
]
PROFILE: Final[dict[URIRef, list[Property]]] = {
    DCAT.Catalog: [
        *_TITLED,
        (DCTERMS.publisher, 1, 1, NODE, FOAF.Agent),
        (DCTERMS.language, 0, MANY, NODE, DCTERMS.LinguisticSystem),
        (DCTERMS.spatial, 0, MANY, NODE, DCTERMS.Location),
        (DCTERMS.modified, 0, 1, TIME, None),
        (FOAF.homepage, 0, 1, NODE, FOAF.Document),
        (DCAT.themeTaxonomy, 0, MANY, NODE, SKOS.ConceptScheme),
        (DCAT.dataset, 0, MANY, NODE, DCAT.Dataset),
        (DCAT.service, 0, MANY, NODE, DCAT.DataService),
        (DCAT.record, 0, MANY, NODE, DCAT.CatalogRecord),
    ],
    DCAT.CatalogRecord: [
        (FOAF.primaryTopic, 1, 1, NODE, DCAT.Resource),
        (DCTERMS.modified, 1, 1, TIME, None),
        (DCTERMS.issued, 0, 1, TIME, None),
        (DCTERMS.language, 0, MANY, NODE, DCTERMS.LinguisticSystem),
        (DCTERMS.conformsTo, 0, 1, NODE, DCTERMS.Standard),
        (ADMS.status, 0, 1, NODE, SKOS.Concept),
    ],
    DCAT.Dataset: [
        *_TITLED,
        (DCTERMS.identifier, 0, MANY, TEXT, None),
        (DCTERMS.publisher, 0, 1, NODE, FOAF.Agent),
        (DCTERMS.creator, 0, MANY, NODE, FOAF.Agent),
        (DCTERMS.accessRights, 0, 1, NODE, DCTERMS.RightsStatement),
        (DCTERMS.accrualPeriodicity, 0, 1, NODE, DCTERMS.Frequency),
        (DCTERMS.language, 0, MANY, NODE, DCTERMS.LinguisticSystem),
        (DCTERMS.spatial, 0, MANY, NODE, DCTERMS.Location),
        (DCTERMS.issued, 0, 1, TIME, None),
        (DCTERMS.modified, 0, 1, TIME, None),
        (URIRef(f"{DCAT}version"), 0, 1, TEXT, None),
        (DCAT.keyword, 0, MANY, TEXT, None),
        (DCAT.theme, 0, MANY, NODE, SKOS.Concept),
        (DCAT.landingPage, 0, MANY, NODE, FOAF.Document),
        (DCAT.distribution, 0, MANY, NODE, DCAT.Distribution),
    ],
    DCAT.Distribution: [
        (DCAT.accessURL, 1, MANY, NODE, None),
        (DCTERMS.title, 0, MANY, TEXT, None),
        (DCTERMS.description, 0, MANY, TEXT, None),
        (DCAT.accessService, 0, MANY, NODE, DCAT.DataService),
        (DCTERMS.format, 0, 1, NODE, DCTERMS.MediaTypeOrExtent),
        (DCAT.mediaType, 0, 1, NODE, DCTERMS.MediaType),
        (DCTERMS.rights, 0, 1, NODE, DCTERMS.RightsStatement),
    ],
    DCAT.DataService: [
        (DCTERMS.title, 1, MANY, TEXT, None),
        (DCAT.endpointURL, 1, MANY, NODE, None),
        (DCAT.endpointDescription, 0, MANY, NODE, None),
        (DCTERMS.publisher, 0, 1, NODE, FOAF.Agent),
        (DCTERMS.accessRights, 0, 1, NODE, DCTERMS.RightsStatement),
        (DCAT.servesDataset, 0, MANY, NODE, DCAT.Dataset),
        (DCAT.theme, 0, MANY, NODE, SKOS.Concept),
    ],
    FOAF.Agent: [(FOAF.name, 1, MANY, TEXT, None), (DCTERMS.type, 0, 1, NODE, SKOS.Concept)],
    SKOS.Concept: [(SKOS.prefLabel, 1, MANY, TEXT, None)],
    SKOS.ConceptScheme: [(DCTERMS.title, 1, MANY, TEXT, None)],
}


def shapes() -> Graph:
    """The table as a SHACL graph."""
    graph = Graph()
    for target, properties in PROFILE.items():
        shape = BNode()
        graph.add((shape, RDF.type, SH.NodeShape))
        graph.add((shape, SH.targetClass, target))
        for path, least, most, kind, of in properties:
            part = BNode()
            graph.add((shape, SH.property, part))
            graph.add((part, SH.path, path))
            if least:
                graph.add((part, SH.minCount, Literal(least)))
            if most is not None:
                graph.add((part, SH.maxCount, Literal(most)))
            if kind == TIME:
                choices = []
                for datatype in (XSD.date, XSD.dateTime):
                    choice = BNode()
                    graph.add((choice, SH.datatype, datatype))
                    choices.append(choice)
                head = BNode()
                Collection(graph, head, choices)
                graph.add((part, SH["or"], head))
            else:
                graph.add((part, SH.nodeKind, {TEXT: SH.Literal, NODE: SH.BlankNodeOrIRI}[kind]))
            if of is not None:
                graph.add((part, SH["class"], of))
    return graph

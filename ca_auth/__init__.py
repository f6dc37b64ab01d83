"""Who is calling: the certificate of a connection, what it proves, and what may reach the application at all."""

from ca_auth.authenticator import Authenticator
from ca_auth.chain import ChainValidator, DirectIssuer
from ca_auth.client_cert import PeerCertificateProtocol, fingerprint_of
from ca_auth.demo_ca import DemoCA, IssuedCertificate
from ca_auth.edge import REFUSAL_KEY, EdgeLimits, EdgeProtocol, OnRefused, edge_protocol
from ca_auth.issuance import CertificateRequest
from ca_auth.principal import Principal
from ca_auth.profile import Identity, identity_of, identity_uri
from ca_auth.refusals import ALL as EDGE_REFUSALS
from ca_auth.refusals import Refusal
from ca_auth.tls import HandshakeRefusal, client_context, load_certificate, server_context

__all__ = [
    "EDGE_REFUSALS",
    "REFUSAL_KEY",
    "Authenticator",
    "CertificateRequest",
    "ChainValidator",
    "DemoCA",
    "DirectIssuer",
    "EdgeLimits",
    "EdgeProtocol",
    "HandshakeRefusal",
    "Identity",
    "IssuedCertificate",
    "OnRefused",
    "PeerCertificateProtocol",
    "Principal",
    "Refusal",
    "client_context",
    "edge_protocol",
    "fingerprint_of",
    "identity_of",
    "identity_uri",
    "load_certificate",
    "server_context",
]

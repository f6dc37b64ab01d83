"""The text of the bus configuration: who may do what, and nothing by accident."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ca_auth import identity_uri
from deploy.demo.identities import OPERATOR_SUBSYSTEM, TAX_SUBSYSTEM
from deploy.nats import AdapterUser, BusAddress, BusUsers, nats_config
from exchange import ServiceId, inbox_prefix, instance_nats_subjects, service_nats_subject, subsystem_id

ADDRESS = BusAddress(
    host="127.0.0.1",
    port=4222,
    certificate=Path("/mesh/pki/nats.crt"),
    key=Path("/mesh/pki/nats.key"),
    trust_anchors=Path("/mesh/pki/ca.pem"),
)
GATEWAY = identity_uri(OPERATOR_SUBSYSTEM)
ENTERPRISES = ServiceId(f"{TAX_SUBSYSTEM}/enterprises")
TAX = AdapterUser(identity=identity_uri(TAX_SUBSYSTEM), subsystem=TAX_SUBSYSTEM, services=frozenset({ENTERPRISES}))
USERS = BusUsers(gateways=frozenset({GATEWAY}), adapters=(TAX,), keys=None)


def parsed(users: BusUsers = USERS) -> dict[str, Any]:
    text = nats_config(ADDRESS, users)
    return json.loads("\n".join(line for line in text.splitlines() if not line.startswith("#")))  # type: ignore[no-any-return]


def permissions(users: BusUsers = USERS) -> dict[str, dict[str, Any]]:
    return {each["user"]: each["permissions"] for each in parsed(users)["authorization"]["users"]}


def test_a_gateway_asks_and_reads_its_own_inbox() -> None:
    assert permissions()[GATEWAY] == {
        "publish": {"allow": ["dt.q.>", "dt.i.>", "$SRV.>"]},
        "subscribe": {"allow": [f"{inbox_prefix(GATEWAY)}.>"]},
    }


def test_an_adapter_serves_its_own_and_publishes_only_replies() -> None:
    allowed = permissions()[TAX.identity]
    assert allowed["publish"] == {"deny": [">"]}
    assert allowed["allow_responses"] == {"max": 1, "expires": "120s"}
    assert set(allowed["subscribe"]["allow"]) == {
        service_nats_subject(ENTERPRISES),
        instance_nats_subjects(TAX_SUBSYSTEM),
        *("$SRV.PING", "$SRV.PING.>", "$SRV.INFO", "$SRV.INFO.>", "$SRV.STATS", "$SRV.STATS.>"),
    }


def test_only_mutual_tls_1_3_names_a_user() -> None:
    config = parsed()
    tls = config["tls"]
    assert (tls["verify_and_map"], tls["handshake_first"], tls["min_version"]) == (True, True, "1.3")
    assert "no_auth_user" not in config
    assert "jetstream" not in config
    assert config["max_payload"] == 1 << 20
    assert all(set(each) == {"user", "permissions"} for each in config["authorization"]["users"])


def test_equal_users_give_equal_text_whatever_their_order() -> None:
    more = replace(TAX, services=frozenset({ENTERPRISES, ServiceId(f"{TAX_SUBSYSTEM}/arrears")}))
    other = subsystem_id("CN/GOV/11997001DT0000019Q/customs")
    customs = AdapterUser(identity=identity_uri(other), subsystem=other, services=frozenset())
    one = nats_config(ADDRESS, replace(USERS, adapters=(more, customs)))
    two = nats_config(ADDRESS, replace(USERS, adapters=(customs, more)))
    assert one == two


def test_a_certificate_of_a_member_may_serve_for_each_of_its_subsystems() -> None:
    other = subsystem_id("CN/GOV/11997001DT0000019Q/customs")
    member = replace(TAX, identity="datong:CN/GOV/11997001DT0000019Q")
    both = BusUsers(
        gateways=frozenset(), adapters=(member, replace(member, subsystem=other, services=frozenset())), keys=None
    )
    allowed = set(permissions(both)[member.identity]["subscribe"]["allow"])
    assert {instance_nats_subjects(TAX_SUBSYSTEM), instance_nats_subjects(other)} < allowed


def test_nobody_is_a_gateway_and_an_adapter() -> None:
    with pytest.raises(ValueError, match="each needs a certificate of its own"):
        nats_config(ADDRESS, BusUsers(gateways=frozenset({TAX.identity}), adapters=(TAX,), keys=None))


def test_paths_with_spaces_quotes_and_chinese_survive() -> None:
    address = replace(ADDRESS, certificate=Path('/数据 "1"/$nats.crt'))
    assert '"cert_file": "/数据 \\"1\\"/$nats.crt"' in nats_config(address, USERS)


def test_lists_that_mean_everybody_when_they_are_empty_are_never_empty() -> None:
    empty = BusUsers(gateways=frozenset(), adapters=(), keys=frozenset())
    assert [each["user"] for each in parsed(empty)["authorization"]["users"]] == ["datong:nobody"]
    assert permissions(empty)["datong:nobody"] == {"publish": {"deny": [">"]}, "subscribe": {"deny": [">"]}}
    assert parsed(empty)["tls"]["pinned_certs"] == ["0" * 64]
    assert "pinned_certs" not in parsed(replace(empty, keys=None))["tls"]

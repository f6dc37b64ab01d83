"""Which of the demo's adapters a mesh starts, and what it says of the others."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from deploy.announce import JsonAnnouncer, TextAnnouncer
from deploy.demo.identities import CIVIL_SUBSYSTEM, HEALTH_SUBSYSTEM, LAND_SUBSYSTEM, TAX_SUBSYSTEM
from deploy.mesh import adapters_to_start
from deploy.parts import Place
from deploy.state import MeshOptions, decide

ALL = {TAX_SUBSYSTEM, CIVIL_SUBSYSTEM, HEALTH_SUBSYSTEM, LAND_SUBSYSTEM}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    state = decide(MeshOptions(data=tmp_path, port=0), None, now=datetime.now(UTC))
    return Place(data=tmp_path, state=replace(state, host="127.0.0.1"))


def started(place: Place, admitted: set[Any], said: list[str]) -> list[str]:
    return [program.name for program in adapters_to_start(place, admitted, JsonAnnouncer(said.append))]


def test_all_are_started_that_the_bus_lets_in(place: Place) -> None:
    said: list[str] = []
    assert started(place, ALL, said) == ["adapter-tax", "adapter-civil", "adapter-health", "adapter-land"]
    assert said == []
    assert started(place, ALL - {CIVIL_SUBSYSTEM}, said) == ["adapter-tax", "adapter-health", "adapter-land"]
    assert said == ['{"event": "trouble", "trouble": "not_admitted", "adapter": "civil"}']


@pytest.mark.parametrize(("language", "advice"), [("en", "is missing"), ("zh", "缺少")])
def test_without_a_library_of_the_demo_the_others_start(
    place: Place, language: Any, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    said: list[str] = []
    programs = adapters_to_start(place, ALL, TextAnnouncer(said.append, language))
    assert [program.name for program in programs] == ["adapter-tax", "adapter-civil", "adapter-land"]
    [line] = said
    assert all(word in line for word in ("health", advice, "datong[demo]"))

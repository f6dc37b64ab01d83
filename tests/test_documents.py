"""The documents tell the truth: every setting, problem code, command and decision they must name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from ca_auth import CHAIN_RULES
from deploy.cli import COMMANDS, app
from exchange import MeshError, Settings
from gateway.api.errors import MethodNotAllowedError

ROOT = Path(__file__).parents[1]


def _tree(error: type[MeshError]) -> list[type[MeshError]]:
    return [error, *(found for child in error.__subclasses__() for found in _tree(child))]


@pytest.mark.parametrize("error", [*_tree(MeshError), MethodNotAllowedError], ids=lambda error: error.code)
def test_every_error_is_listed_with_its_status_and_source(error: type[MeshError]) -> None:
    """A row of docs/errors.md holds status, code, source and X-Road's code."""
    row = f"| {error.status} | `{error.code}` | {error.source} | `{error.xroad_code}` |"
    assert row in (ROOT / "docs/errors.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("rule", CHAIN_RULES)
def test_every_rule_about_certificates_is_explained(rule: str) -> None:
    assert f"`{rule}`" in (ROOT / "docs/errors.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("error", _tree(MeshError), ids=lambda error: error.code)
def test_every_error_speaks_both_languages(error: type[MeshError]) -> None:
    for text in (error.title, error.detail, error.next):
        assert text.keys() == {"en", "zh"}
        assert all(text.values())


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented_with_its_default(name: str) -> None:
    field = Settings.model_fields[name]
    default = "" if field.is_required() else f"`{field.default}`"
    row = f"| `DATONG_{name.upper()}` | {default} | {field.description} |"
    assert row in (ROOT / "docs/settings.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_named_in_the_readme(command: str) -> None:
    assert f"datong {command}" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "document", [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "README.md"], ids=lambda path: path.name
)
def test_every_file_a_document_names_exists(document: Path) -> None:
    """Paths in backquotes that look like files of this project, and relative links, lead somewhere."""
    text = document.read_text(encoding="utf-8")
    rooms = "ca_auth|department_adapters|deploy|docs|exchange|gateway|registry|benchmarks|tests"
    named = set(re.findall(rf"`((?:{rooms})/[\w./-]+\.(?:py|md|toml))`", text))
    linked = set(re.findall(r"\]\(([^)#:]+)\)", text))
    missing = {name for name in named if not (ROOT / name).exists()}
    missing |= {link for link in linked if not (document.parent / link).exists()}
    assert not missing


def test_every_make_verb_of_the_readme_exists() -> None:
    verbs = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    used = set(re.findall(r"\bmake ([a-z-]+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert used <= verbs


def test_decisions_are_numbered_without_gaps_and_have_their_parts() -> None:
    decisions = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [int(path.name[:4]) for path in decisions] == list(range(1, len(decisions) + 1))
    for path in decisions:
        text = path.read_text(encoding="utf-8")
        assert all(part in text for part in ("**Context.**", "**Decision.**", "**What it costs.**")), path.name


def test_every_command_a_document_shows_exists() -> None:
    """`datong adapter enrol` and the like, in every document; `datong adapter new|check` names two."""
    root = get_command(app)
    assert isinstance(root, TyperGroup)
    context = root.make_context("datong", ["--help"], resilient_parsing=True)
    unknown = []
    for document in [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "README.md", ROOT / "CHANGELOG.md"]:
        for noun, verbs in re.findall(r"datong ([a-z]+) ([a-z][a-z|-]*)", document.read_text(encoding="utf-8")):
            command = root.get_command(context, noun)
            if isinstance(command, TyperGroup):
                known = command.list_commands(context)
                unknown += [f"{document.name}: datong {noun} {verb}" for verb in verbs.split("|") if verb not in known]
    assert unknown == []

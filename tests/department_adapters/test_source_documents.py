"""The examples of docs/sources/files.md and docs/sources/python.md, run as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from department_adapters import AdapterTest, read_contract
from department_adapters.code.loading import load_adapter
from department_adapters.files.section import FilesService

ROOT = Path(__file__).parents[2]
HEAD = """
[adapter]
name = "example"
subsystem = "CN/GOV/11990000000001011Q/example"
[bus]
url = "tls://127.0.0.1:4222"
certificate = "adapter.crt"
key = "adapter.key"
trust_anchors = "ca.pem"
gateways = "gateway.crt"
"""


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / "docs" / "sources" / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with people.py, test_people.py and adapter.toml, as the document gives them."""
    module, test, *_ = blocks("python.md", "python")
    (tmp_path / "people.py").write_text(module, encoding="utf-8")
    (tmp_path / "test_people.py").write_text(test, encoding="utf-8")
    (tmp_path / "adapter.toml").write_text(HEAD + blocks("python.md", "toml")[0], encoding="utf-8")
    return tmp_path


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=home, env=environment, capture_output=True, text=True, check=False
    )


def test_the_test_of_the_document_passes(home: Path) -> None:
    done = run(home, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


async def test_the_adapter_file_of_the_document_serves_it(home: Path) -> None:
    async with AdapterTest.of_service(home / "adapter.toml", "residents") as call:
        assert (await call.get("/people/997001195402177090")).json()["born_on"] == "1954-02-17"
        assert (await call.get("/people")).status == 400


def test_the_contract_is_written_as_the_document_says(home: Path) -> None:
    (writing,) = [block for block in blocks("python.md", "python") if "contract.json" in block]
    done = run(home, "-c", writing)
    assert done.returncode == 0, done.stderr
    document = json.loads((home / "contract.json").read_text())
    validate(document)
    assert document["paths"]["/people/{number}"]["get"]["summary"] == "One resident by citizen number."


def test_every_other_piece_of_the_document_can_be_run(home: Path) -> None:
    for number, block in enumerate(blocks("python.md", "python")):
        if "adapter = Adapter(" in block:
            (home / f"piece{number}.py").write_text(block, encoding="utf-8")
            load_adapter(home / f"piece{number}.py", "adapter")


def test_a_program_that_serves_itself_says_what_is_missing(home: Path) -> None:
    """It reads the contract, finds its own service, and stops at the certificate that is not there."""
    (program,) = [block for block in blocks("python.md", "python") if "__main__" in block]
    (home / "people.py").write_text(program, encoding="utf-8")
    done = run(home, "people.py")
    assert done.returncode == 2
    assert "adapter.crt" in done.stderr


def test_the_files_of_the_document_are_declared_rightly(tmp_path: Path) -> None:
    (declared,) = blocks("files.md", "toml")
    (tmp_path / "adapter.toml").write_text(HEAD + declared, encoding="utf-8")
    service = read_contract(tmp_path / "adapter.toml").services["vaccinations"]
    assert isinstance(service, FilesService)
    assert service.paths() == ("/vaccinations", "/vaccinations/{record}")
    keys = tomllib.loads(declared)["services"]["vaccinations"]
    assert set(keys) <= set(FilesService.model_fields)


def test_every_key_of_a_files_section_is_in_the_document() -> None:
    text = (ROOT / "docs" / "sources" / "files.md").read_text(encoding="utf-8")
    own = FilesService.model_fields.keys() - FilesService.__mro__[1].model_fields.keys()  # type: ignore[attr-defined]
    assert [name for name in own if not re.search(rf"\b{name}\b", text)] == []

"""The wheel: everything is in it, and it runs alone in an environment that holds only what it declares."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.ci import require_or_skip
from tests.running_mesh import datong_up

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ROOMS = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
LOCKS = ("requirements/runtime.txt", "requirements/dev.txt")
OF_EXTRAS = {"department_adapters.sql.mysql": "asyncmy"}
"""Module -> the library of an extra that it needs."""


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """What a command prints; its failure is the test's, with everything it said."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DATONG_"))}
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this tree."""
    require_or_skip(importlib.util.find_spec("build") and importlib.util.find_spec("hatchling"), "the build tool")
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (built,) = folder.glob("datong-*.whl")
    return built


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts folder of a new environment with the wheel and its pinned dependencies, far from the source tree."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    install = (*pip(folder / "bin"), "install", "--quiet", "--no-input", "--no-compile")
    run(*install, "--require-hashes", "-r", ROOT / "requirements/runtime.txt")
    run(*install, "--no-deps", wheel)
    return folder / "bin"


def pip(environment: Path) -> tuple[str | Path, ...]:
    """Our own, at work in another environment: to put one into each takes longer than all that is to be tried there."""
    return sys.executable, "-m", "pip", "--python", environment / "python", "--disable-pip-version-check"


def test_every_file_of_the_rooms_is_in_the_wheel(wheel: Path) -> None:
    """Migrations, tables of data and templates included: what a folder holds is what users get."""
    packed = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        path.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources
    assert sources <= packed, sorted(sources - packed)
    assert {name.partition("/")[0] for name in packed if ".dist-info/" not in name} == set(ROOMS)


@pytest.mark.timeout(300)
def test_the_wheel_declares_all_that_it_imports(environment: Path, tmp_path: Path) -> None:
    """Every module imports in an environment with nothing else, and pip finds every declared requirement met.

    A module that needs a library of an extra says at once which one.
    """
    run(*pip(environment), "check")
    modules = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if path.name not in ("__main__.py", "env.py") and not {"versions", "data"} & set(path.parts)
    )
    assert OF_EXTRAS.keys() <= set(modules)
    program = (
        f"import importlib\nmissing = {{}}\nfor name in {modules}:\n"
        "    try: importlib.import_module(name)\n"
        "    except ModuleNotFoundError as error: missing[name] = error.name\n"
        f"assert missing == {OF_EXTRAS}, missing"
    )
    run(environment / "python", "-I", "-c", program, cwd=tmp_path)


@pytest.mark.timeout(300)
def test_the_command_runs_where_only_the_wheel_is(environment: Path, tmp_path: Path) -> None:
    assert run(environment / "datong", "--version", cwd=tmp_path).strip() == f"datong {PROJECT['project']['version']}"
    shown = run(environment / "datong", "--help", cwd=tmp_path)
    for verb in ("up", "demo", "adapter", "gateway", "verify", "doctor"):
        assert re.search(rf"\b{verb}\b", shown), f"`datong --help` does not list {verb}"


@pytest.mark.timeout(300)
def test_a_mesh_comes_up_where_only_the_wheel_is(environment: Path, tmp_path: Path) -> None:
    """Migrations, demo data and the bus included: an exchange is answered and its receipt verifies."""
    changes = {"PYTHONPATH": "", "PATH": f"{environment}:{os.environ['PATH']}"}
    with datong_up(tmp_path, "--port", "0", command=[str(environment / "datong")], **changes) as mesh:
        assert mesh.status(mesh.command(200)) == 200
        done = mesh.paste(mesh.what["examples"][-1]["command"])
        assert done.returncode == 0, done.stdout + done.stderr
        assert mesh.stop() == 0


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_with_hashes_and_names_no_place(lock: str) -> None:
    """Where packages come from is the machine's own setting."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert not re.search(r"https?:|file:|--(extra-)?index|--find-links", text)
    entries = re.split(r"\n(?=\S)", re.sub(r"(?m)^\s*#.*\n", "", text).strip())
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_the_locks_hold_every_declared_dependency() -> None:
    """`make lock` was run after the last change of a dependency."""
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    declared = {
        LOCKS[0]: project["dependencies"] + extras["demo"],
        LOCKS[1]: project["dependencies"] + extras["demo"] + extras["test"] + extras["bench"],
    }
    for lock, requirements in declared.items():
        pinned = dict(re.findall(r"(?m)^([a-z0-9._-]+)==(\S+)", (ROOT / lock).read_text(encoding="utf-8")))
        for requirement in requirements:
            name = re.match(r"[A-Za-z0-9._-]+", requirement)
            assert name
            assert name[0].lower().replace("_", "-") in pinned, f"{requirement} is not in {lock}"


def test_the_development_lock_agrees_with_the_runtime_lock() -> None:
    runtime, dev = (
        dict(re.findall(r"(?m)^([a-z0-9._-]+)==(\S+)", (ROOT / lock).read_text(encoding="utf-8"))) for lock in LOCKS
    )
    assert runtime == {name: version for name, version in dev.items() if name in runtime}

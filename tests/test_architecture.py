"""The rooms of the house: which may enter which, and only by the doorway (`docs/architecture.md`)."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_ENTER = {
    "exchange": set[str](),
    "ca_auth": {"exchange"},
    "registry": {"exchange"},
    "department_adapters": {"exchange"},
    "gateway": {"exchange", "ca_auth", "registry"},
    "deploy": {"exchange", "ca_auth", "registry", "department_adapters", "gateway"},
}
# The command line is joined in one place: each noun is a module of `gateway/cli`, as migrations are modules of theirs.
WINDOWS_OF_DEPLOY = "gateway.cli"


def modules_of(room: str) -> list[Path]:
    return sorted(path for path in (ROOT / room).rglob("*.py") if "versions" not in path.parts)


def imports_of(path: Path) -> Iterator[tuple[str, int]]:
    """The dotted names that a module imports, also inside functions and under TYPE_CHECKING, with their lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((name.name, node.lineno) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import hides which room it enters"
            yield node.module or "", node.lineno
            # `from exchange import merkle` would be a window, too.
            if node.module in MAY_ENTER:
                for name in node.names:
                    if (ROOT / node.module / f"{name.name}.py").exists() or (ROOT / node.module / name.name).is_dir():
                        yield f"{node.module}.{name.name}", node.lineno


@pytest.mark.parametrize("room", MAY_ENTER)
def test_a_room_enters_only_the_rooms_it_may_and_by_the_doorway(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} enters {name}"
        for path in modules_of(room)
        for name, line in imports_of(path)
        if name.partition(".")[0] in MAY_ENTER.keys() - {room}
        and name not in MAY_ENTER[room]
        and not (room == "deploy" and name.startswith(WINDOWS_OF_DEPLOY))
    ]
    assert not wrong, "\n".join(wrong)


WITH_DOORWAY = sorted(MAY_ENTER.keys() - {"deploy", "gateway"})


@pytest.mark.parametrize("room", WITH_DOORWAY)
def test_a_doorway_lists_its_public_names_and_does_nothing_else(room: str) -> None:
    """The list stands in the stub; the room itself only opens it (`exchange.doorway`)."""
    listed = None
    imported = set()
    for node in ast.parse((ROOT / room / "__init__.pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] == room
            imported |= {name.asname or name.name for name in node.names}
        else:
            assert isinstance(node, ast.Assign), "a doorway holds imports and __all__"
            assert [target.id for target in node.targets if isinstance(target, ast.Name)] == ["__all__"]
            listed = ast.literal_eval(node.value)
    assert listed is not None
    assert sorted(set(listed)) == sorted(listed), "a name is listed twice"
    assert set(listed) == imported
    opening = ast.parse((ROOT / room / "__init__.py").read_text(encoding="utf-8")).body
    assert [type(node) for node in opening] == [ast.Expr, ast.ImportFrom, ast.Assign]


@pytest.mark.parametrize("room", WITH_DOORWAY)
def test_every_name_of_a_doorway_is_there(room: str) -> None:
    module = importlib.import_module(room)
    assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        getattr(module, "nothing")  # noqa: B009  # the name is not to be found by type checkers either


def test_a_check_of_a_file_does_not_load_the_mesh() -> None:
    """`datong ca check` is run for one file after the other: what it does not need must not be loaded."""
    program = (
        "import sys, typer.testing, deploy.cli as cli\n"
        "typer.testing.CliRunner().invoke(cli.app, ['ca', 'check', '--anchor', 'none', '--chain', 'none'])\n"
        "print([name for name in ('fastapi', 'uvicorn', 'sqlalchemy', 'nats', 'httpx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Everything is imported once before: what libraries do at their own import is not ours. Then our modules alone again.
IMPORT_AND_WATCH = """
import importlib, os, sys, threading

names, rooms = {names!r}, {rooms!r}

def ours(name):
    return name.partition(".")[0] in rooms

for name in names:
    importlib.import_module(name)
for name in [each for each in sys.modules if ours(each)]:
    del sys.modules[name]

class Environment(dict):
    def get(self, key, default=None):
        self.check(key)
        return super().get(key, default)

    def __getitem__(self, key):
        self.check(key)
        return super().__getitem__(key)

    def __contains__(self, key):
        self.check(key)
        return super().__contains__(key)

    def check(self, key):
        frame = sys._getframe(2)
        while frame.f_globals["__name__"] == "os":
            frame = frame.f_back
        if ours(frame.f_globals["__name__"]):
            sys.exit(f"the import of {{frame.f_globals['__name__']}} read the environment: {{key}}")

def watch(event, arguments):
    if event in ("socket.connect", "socket.bind", "subprocess.Popen", "os.fork"):
        sys.exit(f"an import caused {{event}} {{arguments}}")
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        sys.exit(f"an import wrote {{arguments}}")

sys.dont_write_bytecode = True
os.environ = Environment(os.environ)
threads = threading.active_count()
sys.addaudithook(watch)
for name in names:
    importlib.import_module(name)
if threading.active_count() != threads:
    sys.exit("an import started a thread")
"""


@pytest.mark.parametrize("room", MAY_ENTER)
def test_importing_opens_nothing_and_reads_no_environment(room: str) -> None:
    """Every module of the room, imported where sockets, processes, written files and `os.environ` raise an alarm."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in modules_of(room)
        if path.name != "__main__.py" and "migrations" not in path.parts and "data" not in path.parts
    ]
    program = IMPORT_AND_WATCH.format(names=names, rooms=sorted(MAY_ENTER))
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

"""`docs/register-an-adapter.md` does what it says, beside a real mesh; and what its adapters do in operation.

One mesh for all of it: the tests go on, in their order, with the departments that the page has registered.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from ca_auth import client_context
from department_adapters import ContractError
from deploy.adapter_enrol import with_keys
from deploy.demo.identities import CIVIL_SUBSYSTEM, TAX_SUBSYSTEM
from deploy.state import free_port
from tests.running_mesh import DATA, ROOT, SOURCE, Up, datong_up

DOCUMENT = ROOT / "docs/register-an-adapter.md"
pytestmark = pytest.mark.timeout(300)
BLOCK = re.compile(r"^```(sh)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Walked:
    """A mesh on which the page was followed."""

    up: Up
    folder: Path
    blocks: list[tuple[str, str | None, str]]
    """Each block of commands, what the page says it prints (None: it says nothing), and what it printed."""


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walked]:
    folder = tmp_path_factory.mktemp("walked")
    pieces: list[tuple[str, str | None]] = []
    for kind, content in BLOCK.findall(DOCUMENT.read_text(encoding="utf-8")):
        if kind:
            pieces.append((content, None))
        else:
            pieces[-1] = pieces[-1][0], content
    script = "".join(f"{block}\necho '=== {number}'\n" for number, (block, _) in enumerate(pieces))
    script = script.replace("8091", str(free_port("127.0.0.1")))
    (folder / "datong-data").symlink_to(DATA)
    with datong_up(folder) as up:
        with (folder / "printed").open("w") as out, (folder / "errors").open("w") as errors:
            # Files and no pipes: what runs in the background holds on to them.
            walk = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=folder,
                env=up.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                start_new_session=True,
            )
            try:
                ended = walk.wait(200)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(walk.pid, signal.SIGKILL)  # what it started and did not stop
        output = (folder / "printed").read_text()
        printed = re.split(r"^=== \d+\n", output, flags=re.MULTILINE)
        assert (ended, len(printed)) == (0, len(pieces) + 1), f"{output}\n{(folder / 'errors').read_text()}"
        outputs = zip(pieces, printed, strict=False)
        yield Walked(up, folder, [(block, expected, output) for (block, expected), output in outputs])


def matches(expected: str, output: str) -> bool:
    """Whether it prints that; `…` is anything in a line, and on a line of its own any lines."""
    pattern = ""
    for line in expected.splitlines():
        pattern += r"(?:.*\n)*?" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + r" *\n"
    return re.fullmatch(pattern, output) is not None


def test_every_block_prints_what_stands_below_it(walked: Walked) -> None:
    wrong = [(block, output) for block, expected, output in walked.blocks if expected and not matches(expected, output)]
    assert not wrong, "\n".join(f"{block}\n--- printed\n{output}" for block, output in wrong)
    assert len(walked.blocks) > 10


# -- what is seen, by whom


BUREAU = "CN/GOV/11997001DT0000916J/data"


def ask(walked: Walked, *arguments: str) -> tuple[int, str]:
    """Exit code and output of `datong adapter …`."""
    done = subprocess.run(
        [*SOURCE, "adapter", *arguments, "--data", DATA],
        cwd=walked.folder,
        env=walked.up.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout or done.stderr


def test_everybody_sees_what_concerns_them(walked: Walked) -> None:
    """Through the API, which the commands ask: an owner its own, operator and auditor all, anybody else nothing."""
    pki = walked.folder / DATA / "pki"
    seen = {}
    for party in ("gateway", "audit", "tax", "housing"):
        context = client_context(pki / "ca.pem", pki / f"{party}.crt", pki / f"{party}.key")
        with httpx.Client(base_url=walked.up.what["gateway"], verify=context, trust_env=False, timeout=20) as http:
            page = http.get("/v1/adapters").json()
            seen[party] = [{each["subsystem"] for each in page["adapters"]}, set(page["silent"])]
            for each in page["adapters"]:
                shown = http.get(f"/v1/adapters/{each['instance']}").json()
                assert (shown["certificate_registered"], shown["services"][0]["registered"]) == (True, True)
                assert shown["not_served"] == []
            pinged = http.get("/v1/adapters/ping").json()
            assert {each["subsystem"] for each in pinged["adapters"]} == seen[party][0]
            other = http.get("/v1/adapters", params={"subsystem": CIVIL_SUBSYSTEM})
            assert len(other.json()["adapters"]) == (party in ("gateway", "audit"))
    every = {TAX_SUBSYSTEM, CIVIL_SUBSYSTEM}
    assert every < seen["gateway"][0] | {BUREAU}
    assert seen["gateway"] == seen["audit"]
    assert seen["gateway"][1] == {BUREAU}  # its adapters ended with the walk
    assert seen["tax"] == [{TAX_SUBSYSTEM}, set()]
    assert seen["housing"] == [set(), set()]


def test_a_departments_own_adapters_are_shown_by_the_commands(walked: Walked) -> None:
    code, listed = ask(walked, "list", "--as", "tax", "--json")
    (adapter,) = json.loads(listed)["adapters"]
    assert (code, adapter["subsystem"]) == (0, TAX_SUBSYSTEM)
    code, shown = ask(walked, "info", adapter["instance"], "--as", "tax")
    assert code == 0
    assert adapter["certificate"] in shown
    code, said = ask(walked, "info", adapter["instance"], "--as", "civil", "--lang", "zh")
    assert (code, "适配器实例" in said) == (1, True)
    code, said = ask(walked, "ping", "--subsystem", BUREAU)
    assert (code, said) == (1, f"{BUREAU}: no instance answers\n")


# -- enrolment that goes wrong


def test_enrolment_can_be_run_again_and_is_for_the_holder_alone(walked: Walked) -> None:
    root = json.loads((walked.folder / "stations.code").read_text())["root_fingerprint"]
    gateway = walked.up.what["gateway"]
    key = (walked.folder / "permits/pki/adapter.key").read_bytes()
    (walked.folder / "permits/pki/gateways.pem").unlink()

    def enrol(root: str = root) -> tuple[int, str]:
        return ask_enrol(walked, "permits", gateway, root, "no-code")

    code, said = enrol()
    assert (code, "Run it: datong adapter run permits" in said) == (0, True), said
    assert (walked.folder / "permits/pki/gateways.pem").read_bytes().startswith(b"-----BEGIN")
    assert (walked.folder / "permits/pki/adapter.key").read_bytes() == key
    file = walked.folder / "permits/adapter.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(BUREAU, TAX_SUBSYSTEM), encoding="utf-8")
    code, said = enrol()
    file.write_text(text, encoding="utf-8")
    assert (code, f"is for {BUREAU}; adapter.toml says {TAX_SUBSYSTEM}" in said) == (1, True), said


def ask_enrol(walked: Walked, place: str, gateway: str, root: str, code: str) -> tuple[int, str]:
    done = subprocess.run(
        [*SOURCE, "adapter", "enrol", place, "--gateway", gateway, "--root-fingerprint", root, "--code", code],
        cwd=walked.folder,
        env=walked.up.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout or done.stderr


def test_a_wrong_root_or_code_gets_no_certificate(walked: Walked) -> None:
    """And leaves nothing that looks like one; with another root not even the code is sent."""
    gateway = walked.up.what["gateway"]
    root = json.loads((walked.folder / "stations.code").read_text())["root_fingerprint"]
    new = walked.folder / "again"
    shutil.copytree(walked.folder / "permits", new, ignore=shutil.ignore_patterns("pki", "ledger*"))
    for named, code, expected in (("0" * 64, "X", "nothing was sent"), (root, "ABCDE-FGHJK", "code")):
        status, said = ask_enrol(walked, "again", gateway, named, code)
        assert (status, expected in said) == (1, True), said
        assert not (new / "pki/adapter.crt").exists()
        assert not (new / "pki/adapter.key").exists()


def test_keys_are_set_in_a_file_and_all_else_stays() -> None:
    text = '# why\n[adapter]\nname = "a"  # name\n[bus] # the bus\nurl = "tls://a"\n\n[services.x]\nurl = "stays"\n'
    edited = with_keys(text, "bus", {"url": 'tls://b"', "callers": "pki/callers.pem"})
    assert edited == text.replace('url = "tls://a"', 'callers = "pki/callers.pem"\nurl = "tls://b\\""')
    for odd in ('bus = { url = "a" }\n', 'bus.url = "a"\n', '[bus]\nurl = """\na"""\n', "[adapter]\n"):
        with pytest.raises(ContractError, match=r"write url into it yourself"):
            with_keys(odd, "bus", {"url": "b"})

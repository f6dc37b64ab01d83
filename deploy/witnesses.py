"""The witnesses of a one-machine mesh: two offices, each with a key of its own, and the policy that asks for both."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.parts import Place, module_path, python
from deploy.supervisor import Program
from exchange import KnownLogs, Language, NoteSigner, TrustPolicy, WitnessFolder


@dataclass(frozen=True, slots=True)
class Office:
    """Who runs a witness."""

    key: str
    """Of its folder, its process and in the policy."""
    name: dict[Language, str]

    @property
    def key_name(self) -> str:
        """Of its key in cosignatures."""
        return f"demo.datong.example/{self.key}-witness"

    def folder(self, place: Place) -> WitnessFolder:
        return WitnessFolder(place.folder / "witnesses" / self.key)

    def url(self, place: Place) -> str:
        return f"http://127.0.0.1:{self.port(place)}"

    def port(self, place: Place) -> int:
        return place.state.audit_witness_port if self.key == "audit" else place.state.civil_witness_port


OFFICES = (
    Office("audit", {"en": "audit office", "zh": "审计局"}),
    Office("civil", {"en": "civil affairs bureau", "zh": "民政局"}),
)


def make_policy(place: Place) -> None:
    """Make the witnesses' keys if they are missing, let them know the log, and write the policy of this run.

    The keys stay; addresses are those of this run.
    """
    log = NoteSigner.from_skey((place.folder / "log.key").read_text(encoding="utf-8")).verifier
    lines = [
        "# Who must cosign a checkpoint of this mesh before a receipt is final. Written anew at every start.",
        f"log {log.vkey}",
    ]
    for office in OFFICES:
        folder = office.folder(place)
        verifier = folder.cosigner(office.key_name).verifier
        KnownLogs(folder.logs).add([log.vkey])
        lines.append(f"witness {office.key} {verifier.vkey} {office.url(place)}")
    names = " ".join([office.key for office in OFFICES])
    text = "\n".join([*lines, f"group both all {names}", "quorum both", ""])
    TrustPolicy.from_text(text)  # what we write, the gateway must be able to read
    draft = place.witness_policy.with_name(f"{place.witness_policy.name}.new")
    draft.write_text(text, encoding="utf-8")
    draft.replace(place.witness_policy)


def witness(place: Place, office: Office) -> Program:
    """The witness of one office."""
    ready = place.run / f"witness-{office.key}.url"
    return Program(
        name=f"witness-{office.key}",
        argv=(
            *python("deploy.cli"),
            *("log", "witness", "--data", str(office.folder(place).path), "--port", str(office.port(place))),
            *("--ready-file", str(ready)),
        ),
        ready_file=ready,
        environment=module_path(),
    )

"""An issuing key on a PKCS #11 token: it signs there, and is never anywhere else. With SoftHSM."""

from __future__ import annotations

import copy
import importlib.util
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ca_auth import CaOperationError, CaSettings, IssuingCA, Pkcs11Settings, create_ca
from tests.ca_auth.issuing_world import PASSPHRASE, REQUEST, Clock, new_key, pem, verdict_of_openssl
from tests.ci import require_or_skip

LIBRARY = next(
    (
        path
        for path in map(
            Path,
            (
                "/usr/lib/softhsm/libsofthsm2.so",
                "/usr/lib64/pkcs11/libsofthsm2.so",
                "/opt/homebrew/lib/softhsm/libsofthsm2.so",
            ),
        )
        if path.exists()
    ),
    None,
)
PIN = "2468"


@pytest.fixture(scope="module")
def pkcs11(tmp_path_factory: pytest.TempPathFactory) -> Pkcs11Settings:
    """A new token. The library reads its configuration once in a process, so all tests here share it."""
    require_or_skip(LIBRARY and shutil.which("softhsm2-util"), "softhsm2")
    require_or_skip(importlib.util.find_spec("pkcs11"), "python-pkcs11")
    folder = tmp_path_factory.mktemp("token")
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(
        f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    patch = pytest.MonkeyPatch()
    patch.setenv("SOFTHSM2_CONF", str(configuration))
    arguments = ["softhsm2-util", "--init-token", "--free", "--label", "datong", "--pin", PIN, "--so-pin", "13579"]
    subprocess.run(arguments, check=True, capture_output=True)
    pin_file = folder / "pin"
    pin_file.write_text(PIN + "\n")
    pin_file.chmod(0o600)
    return Pkcs11Settings(module=str(LIBRARY), token="datong", label="first", pin_file=str(pin_file))


def make(folder: Path, settings: Pkcs11Settings, clock: Clock, **options: Any) -> IssuingCA:
    create_ca(
        folder,
        name="Token CA",
        organization="",
        now=datetime.fromtimestamp(clock(), UTC),
        root_passphrase=PASSPHRASE,
        settings=CaSettings(pkcs11=settings),
        **options,
    )
    return IssuingCA.open(folder, clock=clock)


@pytest.mark.parametrize("curve", ["P-256", "P-384"])
def test_a_ca_on_a_token_issues_revokes_and_is_verified_by_openssl(
    pkcs11: Pkcs11Settings, tmp_path: Path, curve: str
) -> None:
    clock = Clock()
    ca = make(tmp_path / "ca", pkcs11.model_copy(update={"label": f"key on {curve}"}), clock, curve=curve)
    issued = ca.issue(REQUEST, new_key().public_key(), by="test")
    assert verdict_of_openssl(ca, pem(issued.certificate), tmp_path, at=clock()) == "OK"
    ca.revocations.revoke([issued.row], "keyCompromise", by="test")
    assert "certificate revoked" in verdict_of_openssl(ca, pem(issued.certificate), tmp_path, at=clock())
    assert not ca.folder.issuing_key.exists()
    ca.close()
    again = IssuingCA.open(tmp_path / "ca", clock=clock)
    assert again.issue(REQUEST, new_key().public_key(), by="test").chain == ca.chain[:-1]
    again.close()


def test_the_key_stays_on_the_token(pkcs11: Pkcs11Settings, tmp_path: Path) -> None:
    ca = make(tmp_path / "ca", pkcs11.model_copy(update={"label": "stays"}), Clock())
    key = ca.folder.signing_key(ca.settings)
    with pytest.raises(TypeError):
        key.private_numbers()
    with pytest.raises(TypeError):
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with pytest.raises(TypeError):
        key.exchange(ec.ECDH(), new_key().public_key())
    assert copy.copy(key) is copy.deepcopy(key) is key
    ca.close()


# The library's own clean-up stumbles over the broken session as well, where nobody can catch it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_session_that_broke_is_opened_again(pkcs11: Pkcs11Settings, tmp_path: Path) -> None:
    ca = make(tmp_path / "ca", pkcs11.model_copy(update={"label": "breaks"}), Clock())
    session = ca._key._session._opened  # type: ignore[attr-defined]  # what a token does when it is reset
    session.close()
    ca.issue(REQUEST, new_key().public_key(), by="test")
    ca.close()


def test_a_label_is_not_used_twice_but_a_key_that_is_there_can_be(pkcs11: Pkcs11Settings, tmp_path: Path) -> None:
    settings = pkcs11.model_copy(update={"label": "once"})
    first = make(tmp_path / "a", settings, Clock())
    with pytest.raises(CaOperationError) as error:
        make(tmp_path / "b", settings, Clock())
    assert error.value.rule == "ca-key"
    assert not (tmp_path / "b").exists()
    second = make(tmp_path / "b", settings, Clock(), use_token_key=True)
    assert second.folder.public_key() == first.folder.public_key()
    first.close()
    second.close()


def test_what_is_wrong_with_a_token_is_said(pkcs11: Pkcs11Settings, tmp_path: Path) -> None:
    ca = make(tmp_path / "ca", pkcs11.model_copy(update={"label": "mine"}), Clock())
    make(tmp_path / "other", pkcs11.model_copy(update={"label": "other"}), Clock()).close()
    ca.close()
    open_to_all = tmp_path / "pin"
    open_to_all.write_text(PIN)
    open_to_all.chmod(0o644)
    for change, said in (
        ({"token": "nowhere"}, "nowhere"),
        ({"label": "nothing"}, "no key nothing"),
        ({"label": "other"}, "is not the key of this CA"),
        ({"pin_file": str(tmp_path / "none")}, "PIN file"),
        ({"pin_file": str(open_to_all)}, "chmod 600"),
    ):
        settings = pkcs11.model_copy(update={"label": "mine"} | change)
        with pytest.raises(CaOperationError) as error:
            ca.folder.signing_key(CaSettings(pkcs11=settings))
        assert said in str(error.value)


def test_a_wrong_pin_and_a_wrong_library_are_said(pkcs11: Pkcs11Settings, tmp_path: Path) -> None:
    """In a process of its own: a login, and a library, hold for the whole process."""
    wrong_pin = tmp_path / "pin"
    wrong_pin.write_text("0000")
    wrong_pin.chmod(0o600)
    for change, said in (
        ({"pin_file": str(wrong_pin)}, "refuses the PIN"),
        ({"module": str(tmp_path / "nothing.so")}, "not a PKCS #11 library"),
    ):
        settings = pkcs11.model_copy(update=change)
        program = (
            "from ca_auth.issuing.ca_settings import Pkcs11Settings\nfrom ca_auth.issuing.pkcs11_key import open_token_key\n"
            f"open_token_key(Pkcs11Settings.model_validate({settings.model_dump()!r}).key())"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert said in done.stderr


def test_without_the_extra_the_error_names_it(tmp_path: Path) -> None:
    (tmp_path / "pin").write_text("1")
    program = (
        "import sys; sys.modules['pkcs11'] = None\n"
        "from pathlib import Path\nfrom ca_auth.issuing.key_provider import TokenKey\n"
        "from ca_auth.issuing.pkcs11_key import open_token_key\n"
        "open_token_key(TokenKey(module=Path('x'), token='t', label='l', pin_file=Path('p')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "pip install 'datong[pkcs11]'" in done.stderr

"""`datong ca init`, and the commands around a root: one of our own that is kept offline, or an existing one to join."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from ca_auth import (
    REASONS,
    CaFolder,
    CaOperationError,
    CaSettings,
    OfflineRoot,
    Pkcs11Settings,
    ca_signing_request,
    create_ca,
    fingerprint_of,
    install_certificate,
    read_certificates,
)
from gateway.cli import console_io as io
from gateway.cli.ca_io import (
    DEFAULT_FOLDER,
    CaOption,
    FolderArgument,
    PassphraseOption,
    Voice,
    grouped,
    passphrase,
    read_crls,
    reason_of,
    write_public,
)

Curve = Literal["P-256", "P-384"]
NameOption = Annotated[str, typer.Option("--name", help="What the CA is called.")]
OrganizationOption = Annotated[str, typer.Option("--organization", help="Whose it is.")]
PermitDnsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--permit-dns", help="Limit server names to this domain and below, in the CA's certificate; repeatable."
    ),
]
RootOption = Annotated[Path, typer.Option("--root", help="The root's certificate.")]
RootKeyOption = Annotated[Path, typer.Option("--root-key", help="The root's key.")]


def init(
    folder: FolderArgument,
    name: NameOption = "Datong Issuing CA",
    organization: OrganizationOption = "",
    passphrase_file: PassphraseOption = None,
    existing_root: Annotated[
        bool, typer.Option("--existing-root", help="Make no root: write issuing.csr, to be signed by a root elsewhere.")
    ] = False,
    curve: Annotated[str, typer.Option("--curve", help="P-256 or P-384.")] = "P-256",
    root_days: Annotated[float, typer.Option("--root-days", min=1, max=10_950)] = 3650,
    issuing_days: Annotated[float, typer.Option("--issuing-days", min=1, max=5_475)] = 1825,
    permit_dns: PermitDnsOption = None,
    permit_member: Annotated[
        list[str] | None,
        typer.Option("--permit-member", help="Issue for this identifier or beginning of one only; repeatable."),
    ] = None,
    default_days: Annotated[float, typer.Option("--default-days", help="Validity of a certificate.", max=825)] = 90,
    crl_days: Annotated[float, typer.Option("--crl-days", help="From a CRL to its nextUpdate.", max=30)] = 7,
    crl_url: Annotated[str, typer.Option("--crl-url", help="Where the CRL can be fetched, for certificates.")] = "",
    pkcs11_module: Annotated[
        Path | None, typer.Option("--pkcs11-module", help="Keep the issuing key on a token: the token's library.")
    ] = None,
    pkcs11_token: Annotated[str, typer.Option("--pkcs11-token", help="Label of the token.")] = "",
    pkcs11_label: Annotated[str, typer.Option("--pkcs11-label", help="Label of the key.")] = "datong-issuing-ca",
    pkcs11_pin_file: Annotated[Path | None, typer.Option("--pkcs11-pin-file", help="File with the user PIN.")] = None,
    pkcs11_existing_key: Annotated[
        bool, typer.Option("--pkcs11-existing-key", help="The key is on the token already.")
    ] = False,
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Make a CA: an offline root with an encrypted key, and an issuing CA below it.

    Example: datong ca init datong-ca --name 示例市政务CA --organization 示例市大数据局 --permit-member CN/GOV
    """
    voice = Voice.of(as_json, lang)
    if curve not in get_args(Curve):
        raise typer.BadParameter("P-256 or P-384", param_hint="--curve")
    token = _token(pkcs11_module, pkcs11_token, pkcs11_label, pkcs11_pin_file)
    settings = CaSettings(
        default_days=default_days,
        crl_days=crl_days,
        crl_url=crl_url,
        permit_members=tuple(permit_member or ()),
        pkcs11=token,
    )
    with voice.errors():
        made = create_ca(
            folder,
            name=name,
            organization=organization,
            now=datetime.now(UTC),
            curve="P-384" if curve == "P-384" else "P-256",
            root_passphrase=None if existing_root else passphrase(passphrase_file, voice, new=True),
            root_days=root_days,
            issuing_days=issuing_days,
            permit_dns=tuple(permit_dns or ()),
            settings=settings,
            use_token_key=pkcs11_existing_key,
        )
        if existing_root:
            file = folder / "issuing.csr"
            write_public(file, ca_signing_request(made, name=name, organization=organization))
            voice.tell(
                f"Have {file} signed as a CA (pathLen 0), then: datong ca install CERTIFICATE --root ROOT --ca {folder}",
                f"请将 {file} 提交上级 CA 签发，然后执行：\n  datong ca install 证书 --root 根证书 --ca {folder}",
                {"folder": str(folder), "request": str(file)},
            )
            return
        root = _fingerprint(read_certificates(made.root_certificate)[0])
    voice.tell(
        f"The CA is in {folder}. Fingerprint of its root (SHA-256), for everybody who is to trust it:\n"
        f"  {grouped(root)}\n"
        f"NOW: take {made.root_key} off this machine, with {made.root_certificate} and {made.upstream_crls}, to two places\n"
        "     that are kept locked, and delete it here. It is needed once a year for the root's CRL (datong ca root-crl)\n"
        "     and to renew or revoke the issuing CA. Keep the passphrase apart from it.\n"
        f"Then: datong ca serve {folder} --server-name HOST, and datong ca code --ca {folder} --for IDENTIFIER",
        f"CA 已建立：{folder}。根证书指纹（SHA-256），请告知所有信任方：\n"
        f"  {grouped(root)}\n"
        f"请立即：将 {made.root_key} 连同 {made.root_certificate}、{made.upstream_crls} 移至两处离线保管场所，并从本机删除。\n"
        "      每年签发根 CRL（datong ca root-crl）以及更换、吊销签发 CA 时才需要它。口令须与密钥分开保管。\n"
        f"然后：datong ca serve {folder} --server-name 主机名；datong ca code --ca {folder} --for 标识符",
        {"folder": str(folder), "root_fingerprint": root, "root_key": str(made.root_key)},
    )


def request(
    folder: CaOption = DEFAULT_FOLDER,
    out: Annotated[Path | None, typer.Option("--out", help="File; default: issuing.csr in the CA's folder.")] = None,
    name: NameOption = "Datong Issuing CA",
    organization: OrganizationOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Write the issuing CA's signing request: to join an existing root, or to be renewed under its present name.

    Example: datong ca request --ca datong-ca --out issuing.csr
    """
    voice = Voice.of(as_json, lang)
    with voice.errors():
        content = ca_signing_request(CaFolder(folder), name=name, organization=organization)
        file = out or folder / "issuing.csr"
        write_public(file, content)
    voice.tell(str(file), str(file), {"request": str(file)})


def sign_issuing(
    csr: Annotated[Path, typer.Argument(help="Signing request of an issuing CA (datong ca request).")],
    root: RootOption,
    root_key: RootKeyOption,
    out: Annotated[Path, typer.Option("--out", help="Where the certificate goes.")] = Path("issuing.crt"),
    days: Annotated[float, typer.Option("--days", min=1, max=5_475)] = 1825,
    permit_dns: PermitDnsOption = None,
    crl_url: Annotated[str, typer.Option("--crl-url", help="Where the root's CRL can be fetched.")] = "",
    passphrase_file: PassphraseOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether the name is right.")] = False,
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Sign an issuing CA with our own root, on the machine where the root's key is.

    Example: datong ca sign-issuing issuing.csr --root root.crt --root-key root.key
    """
    voice = Voice.of(as_json, lang)
    with voice.errors():
        try:
            asked = x509.load_pem_x509_csr(csr.read_bytes())
        except ValueError as error:
            raise CaOperationError(
                "ca-request", problem=f"{csr} is no signing request.", problem_zh=f"{csr} 不是证书签名请求。"
            ) from error
        named = asked.subject.rfc4514_string()
        if not yes:
            typer.confirm(voice.say(f"A CA called {named}?", f"签发名为 {named} 的 CA？"), abort=True, err=True)
        opened = OfflineRoot.open(root, root_key, passphrase(passphrase_file, voice, new=False))
        signed = opened.sign(asked, datetime.now(UTC), days, permit_dns=tuple(permit_dns or ()), crl_url=crl_url)
        write_public(out, signed.public_bytes(serialization.Encoding.PEM))
    voice.tell(str(out), str(out), {"certificate": str(out), "subject": named, "fingerprint": _fingerprint(signed)})


def install(
    certificate: Annotated[Path, typer.Argument(help="The issuing CA's certificate; those above it may follow in it.")],
    root: RootOption,
    folder: CaOption = DEFAULT_FOLDER,
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Give the issuing CA the certificate that a root has signed, the first or the next.

    Example: datong ca install issuing.crt --root root.crt --ca datong-ca
    """
    voice = Voice.of(as_json, lang)
    with voice.errors():
        folder_ = CaFolder(folder)
        folder_.settings()  # says clearly what is not the folder of a CA
        pem = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in read_certificates(certificate))
        top = read_certificates(root)[0].public_bytes(serialization.Encoding.PEM)
        chain = install_certificate(folder_, pem, top, datetime.now(UTC))
    end = chain[0].not_valid_after_utc.date().isoformat()
    voice.tell(
        f"The issuing CA is good until {end}. Import the root's CRL: datong ca crl --import FILE. A running datong ca serve "
        "takes the certificate up when it starts again.",
        f"签发 CA 有效期至 {end}。请导入根 CRL：datong ca crl --import 文件。运行中的 datong ca serve 重启后生效。",
        {"subject": chain[0].subject.rfc4514_string(), "not_after": end, "root_fingerprint": _fingerprint(chain[-1])},
    )


def root_crl(
    root: RootOption,
    root_key: RootKeyOption,
    previous: Annotated[
        Path | None, typer.Option("--previous", help="The root's last CRL: what it lists stays listed.")
    ] = None,
    first: Annotated[bool, typer.Option("--first", help="The root has never made a CRL.")] = False,
    revoke: Annotated[
        list[Path] | None, typer.Option("--revoke", help="Certificate of an issuing CA to revoke; repeatable.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help=f"Why: {', '.join(REASONS)}.")] = "unspecified",
    days: Annotated[float, typer.Option("--days", help="Until its nextUpdate.", min=1, max=400)] = 365,
    out: Annotated[Path, typer.Option("--out", help="Where the CRL goes, PEM.")] = Path("root.crl.pem"),
    passphrase_file: PassphraseOption = None,
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Make the root's CRL, on the machine where the root's key is. Then: datong ca crl --import FILE.

    Example: datong ca root-crl --root root.crt --root-key root.key --previous upstream.crl.pem
    """
    voice = Voice.of(as_json, lang)
    why = reason_of(reason)
    if (previous is None) is not first:
        raise typer.BadParameter("give the last CRL, or say --first", param_hint="--previous")
    with voice.errors():
        opened = OfflineRoot.open(root, root_key, passphrase(passphrase_file, voice, new=False))
        last = None
        if previous is not None:
            of_root = [each for each in read_crls(previous) if each.issuer == opened.certificate.subject]
            last = of_root[0] if of_root else read_crls(previous)[0]
        revoked = [(read_certificates(file)[0], why) for file in revoke or ()]
        made = opened.crl(last, revoked, datetime.now(UTC), days)
        write_public(out, made.public_bytes(serialization.Encoding.PEM))
    voice.tell(str(out), str(out), {"crl": str(out), "entries": len(made)})


def _token(module: Path | None, token: str, label: str, pin_file: Path | None) -> Pkcs11Settings | None:
    if module is None:
        if token or pin_file is not None:
            raise typer.BadParameter("a token needs its library", param_hint="--pkcs11-module")
        return None
    if not token or pin_file is None:
        raise typer.BadParameter("--pkcs11-token and --pkcs11-pin-file belong with it", param_hint="--pkcs11-module")
    return Pkcs11Settings(module=str(module), token=token, label=label, pin_file=str(pin_file.resolve()))


def _fingerprint(certificate: x509.Certificate) -> str:
    return fingerprint_of(certificate.public_bytes(serialization.Encoding.DER))

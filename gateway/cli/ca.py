"""`datong ca`: an issuing CA, and a department's way to a certificate from one."""

from __future__ import annotations

import typer

from gateway.cli.late_commands import late_commands

# Name -> function, in the order of `datong ca --help`.
COMMANDS = {
    "init": "gateway.cli.ca_begin:init",
    "code": "gateway.cli.ca_issue:code",
    "issue": "gateway.cli.ca_issue:issue",
    "enroll": "gateway.cli.ca_department:enroll",
    "renew": "gateway.cli.ca_department:renew",
    "revoke": "gateway.cli.ca_revoke:revoke",
    "crl": "gateway.cli.ca_revoke:crl",
    "list": "gateway.cli.ca_revoke:list_",
    "check": "gateway.cli.ca_check:check",
    "serve": "gateway.cli.ca_serve:serve",
    "request": "gateway.cli.ca_begin:request",
    "sign-issuing": "gateway.cli.ca_begin:sign_issuing",
    "install": "gateway.cli.ca_begin:install",
    "root-crl": "gateway.cli.ca_begin:root_crl",
}

app = typer.Typer(
    cls=late_commands(COMMANDS),
    help="Certificates: run an issuing CA, enrol with one, renew, revoke. 证书：运行签发 CA、注册、续期、吊销。",
    no_args_is_help=True,
)


@app.callback()
def ca() -> None:
    pass

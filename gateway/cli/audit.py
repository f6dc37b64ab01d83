"""`datong audit`: search the exchange log, count and export, check all of it, compare it with the departments' ledgers.

The commands read the log's database directly, so that they work without a gateway and against one that is not trusted. What they
look at is not put on record: whoever can read that database needs no command for it. Auditors have the API, where it is.
"""

from __future__ import annotations

import typer

from gateway.cli.late_commands import late_commands

app = typer.Typer(
    cls=late_commands(
        {
            "list": "gateway.cli.audit_list:list_entries",
            "show": "gateway.cli.audit_show:show",
            "statistics": "gateway.cli.audit_statistics:statistics",
            "export": "gateway.cli.audit_export:export_records",
            "changes": "gateway.cli.audit_changes:changes",
            "opening": "gateway.cli.audit_opening:app",
            "check": "gateway.cli.audit_check:check",
            "check-ledger": "gateway.cli.audit_ledger:check_ledger_folder",
            "index": "gateway.cli.audit_index:index",
            "reconcile": "gateway.cli.audit_reconcile:reconcile_ledgers",
            "forget": "gateway.cli.audit_forget:forget",
        }
    ),
    help="The exchange log: search, count, export, check, reconcile.",
    no_args_is_help=True,
)


@app.callback()
def audit() -> None:
    """The exchange log: search, count, export, check, reconcile."""

"""The adapter's own ledger: what a department was asked, and what it gave."""

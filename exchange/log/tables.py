"""Tables of the exchange log. The writer (`exchange.log.store`) fills them, `exchange.log.reader` reads them.

Rules:
1. Beside its primary key the hot table has one index and no more: each dirties pages of its own with every commit, and what
   else is looked for the search index finds (`exchange.search`). A second holds the few records of changes, a third those of
   acts on the log, and they cost those of exchanges nothing.
2. Identifiers compare byte by byte on both databases, so that a prefix is a range.
3. Rows of entries, tiles and checkpoints are never changed, but for `salt`: setting it to null unlinks the digests of
   an entry from whatever was exchanged, and breaks no proof.
4. With its salt the evidence of an entry goes, by a trigger: whoever erases the one, by whatever means, erases both.
5. A row of an entry is only removed together with what says so: a row of `log_removed`, and the record that it names.
   Tiles and checkpoints stay for ever, so every proof can still be made.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

# "C" makes PostgreSQL compare bytes, as SQLite does.
_Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
# On SQLite only INTEGER PRIMARY KEY is the row's own number.
_Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ONLY_CHANGES = sa.text("outcome = 'change'")
_ONLY_EVENTS = sa.text("outcome IN ('access', 'retention')")

entries = sa.Table(
    "log_entries",
    metadata,
    sa.Column("seq", _Number, primary_key=True, autoincrement=False),
    sa.Column("exchange_id", _Text, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("client", _Text, nullable=False),
    sa.Column("service", _Text, nullable=False),
    sa.Column("outcome", _Text, nullable=False),
    sa.Column("rule", _Text, nullable=False),
    sa.Column("leaf_hash", sa.LargeBinary, nullable=False),
    sa.Column("salt", sa.LargeBinary),
    sa.Column("leaf", sa.LargeBinary, nullable=False),
    sa.Index("log_entries_exchange_id", "exchange_id", unique=True),
    sa.Index("log_entries_changes", "seq", sqlite_where=_ONLY_CHANGES, postgresql_where=_ONLY_CHANGES),
    sa.Index("log_entries_events", "seq", sqlite_where=_ONLY_EVENTS, postgresql_where=_ONLY_EVENTS),
)

tiles = sa.Table(
    "log_tiles",
    metadata,
    sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("root", sa.LargeBinary, nullable=False),
    sa.Column("hashes", sa.LargeBinary, nullable=False),
)

state = sa.Table(
    "log_state",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("root", sa.LargeBinary, nullable=False),
)

checkpoints = sa.Table(
    "log_checkpoints",
    metadata,
    sa.Column("size", _Number, primary_key=True, autoincrement=False),
    sa.Column("root", sa.LargeBinary, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
)

edge = sa.Table(
    "log_edge",
    metadata,
    sa.Column("size", _Number, primary_key=True, autoincrement=False),
    sa.Column("hashes", sa.LargeBinary, nullable=False),
)
"""One row: the leaf hashes in the unfinished tile of level 0 when the newest checkpoint, of `size` entries, was signed.

What no tile tells yet, this tells: which entry was changed since, if one was (`exchange.audit.log_check`).
"""

intents = sa.Table(
    "log_intents",
    metadata,
    sa.Column("exchange_id", _Text, primary_key=True),
    sa.Column("gateway", _Text, nullable=False),
    sa.Column("boot", _Text, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("deadline_ms", sa.BigInteger, nullable=False),
    sa.Column("salt", sa.LargeBinary),
    sa.Column("record", sa.LargeBinary, nullable=False),
)

certificates = sa.Table(
    "log_certificates",
    metadata,
    sa.Column("fingerprint", _Text, primary_key=True),
    sa.Column("der", sa.LargeBinary, nullable=False),
    sa.Column("first_seen_ms", sa.BigInteger, nullable=False),
)

evidence = sa.Table(
    "log_evidence",
    metadata,
    sa.Column("exchange_id", _Text, primary_key=True),
    sa.Column("evidence", sa.LargeBinary, nullable=False),
)
"""Callers' own signatures of requests: they hold the path, which may name a person."""

cosignatures = sa.Table(
    "log_cosignatures",
    metadata,
    sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("witness", _Text, primary_key=True),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("line", sa.Text, nullable=False),
    sa.Index("log_cosignatures_witness", "witness", "size"),
)
"""Signature lines of witnesses over the checkpoint of a size (C2SP tlog-cosignature); `witness` is the key's name."""

stamps = sa.Table(
    "log_stamps",
    metadata,
    sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("authority", _Text, primary_key=True),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("token", sa.LargeBinary, nullable=False),
)
"""RFC 3161 tokens (DER) over the text of the checkpoint of a size."""

revocations = sa.Table(
    "log_revocations",
    metadata,
    sa.Column("digest", _Text, primary_key=True),
    sa.Column("kind", _Text, nullable=False),
    sa.Column("about", _Text, nullable=False),
    sa.Column("this_update_ms", sa.BigInteger, nullable=False),
    sa.Column("next_update_ms", sa.BigInteger),
    sa.Column("first_seen_ms", sa.BigInteger, nullable=False),
    sa.Column("der", sa.LargeBinary, nullable=False),
    sa.Index("log_revocations_about", "about", "this_update_ms"),
)
"""CRLs and OCSP responses that a gateway went by, for receipts. `about` is the hex SHA-256 of the issuer's name (DER) for a
`crl`; for an `ocsp` response the issuer name's hash as it stands there, a colon and the serial number, in hex. `digest` is the
hex SHA-256 of `about` and `der`."""

removed = sa.Table(
    "log_removed",
    metadata,
    sa.Column("first", _Number, primary_key=True, autoincrement=False),
    sa.Column("end", sa.BigInteger, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("segment", _Text, nullable=False),
)
"""Entries `first` up to, not including, `end` were removed when their time was over (`exchange.archive.retention`).

Entry `seq` is the record of that, written in the same transaction: a `LogEvent` of kind `retention`, act `segment.pruned`, whose
details have `segment`, and `[first, end]` among `ranges`. `segment` is the hex SHA-256 of the manifest of the archive segment
that holds them. Ranges do not overlap, and lie below `seq` and in complete tiles: their leaf hashes stand in `log_tiles`, level 0.
"""

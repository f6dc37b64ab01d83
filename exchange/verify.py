"""`python -m exchange.verify`: whether receipts and archive segments hold, offline, with nothing installed but `cryptography`.

`datong verify` makes the same checks and prints them the same way. An auditor who trusts nobody's installation copies this folder,
reads it, and runs it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from exchange.archive.segment import is_archive
from exchange.archive.segment_checks import verify_archive
from exchange.receipts.receipt import Check, ReceiptError, Verdict, verdict, verify_receipt

Language = Literal["en", "zh"]

TITLES: dict[str, dict[Language, str]] = {
    "form": {"en": "form", "zh": "格式"},
    "checkpoint": {"en": "log's signature", "zh": "日志签名"},
    "inclusion": {"en": "in the log", "zh": "在日志中"},
    "witnessed": {"en": "witnessed", "zh": "见证"},
    "stamped": {"en": "time stamp", "zh": "时间戳"},
    "record": {"en": "record", "zh": "记录"},
    "manifest": {"en": "manifest signed", "zh": "清单签名"},
    "tree": {"en": "hash tree", "zh": "哈希树"},
    "entries": {"en": "entries", "zh": "记录"},
    "private": {"en": "salts", "zh": "盐值"},
    "change": {"en": "change", "zh": "变更"},
    "act": {"en": "act on the log", "zh": "日志操作"},
    "decider": {"en": "made by", "zh": "操作人"},
    "caller": {"en": "caller", "zh": "调用方"},
    "signature": {"en": "caller's signature", "zh": "调用方签名"},
    "gateway": {"en": "gateway's seal", "zh": "网关签名"},
    "adapter": {"en": "owner's seal", "zh": "提供方签名"},
    "binding": {"en": "answer to query", "zh": "应答对应"},
    "release": {"en": "release terms", "zh": "释放条件"},
    "revocation": {"en": "not revoked", "zh": "未吊销"},
    "certificates": {"en": "certificates", "zh": "证书"},
    "request": {"en": "request sent", "zh": "请求内容"},
    "answer": {"en": "answer received", "zh": "应答内容"},
}
"""What a line about a check begins with."""

_MARKS = {"ok": "✓", "absent": "–", "pending": "…", "failed": "✗"}
_VERDICTS: dict[Verdict, dict[Language, str]] = {
    "final": {"en": "The {what} holds.", "zh": "{what}有效。"},
    "pending": {
        "en": "The {what} is PENDING: nothing in it is wrong, and what the key list demands is not there yet.",
        "zh": "{what}待定：内容无误，但尚缺密钥列表所要求的见证或时间戳。",
    },
    "invalid": {"en": "The {what} does NOT hold.", "zh": "{what}无效！"},
}
_KINDS: dict[str, dict[Language, str]] = {
    "receipt": {"en": "receipt", "zh": "回执"},
    "segment": {"en": "segment", "zh": "归档段"},
}


def verify_file(path: Path, keys: bytes, *, answer_body: bytes | None = None) -> list[Check]:
    """Every check of a receipt or of an archive segment, whichever the file is; it is good if all are ok.

    Args:
        keys: The key list.
        answer_body: The body of the answer, if the holder of a receipt has it.

    Raises:
        ReceiptError: The key list cannot be used, or a segment is to be compared with an answer.
        OSError: The file cannot be read.
    """
    if not is_archive(path):
        return verify_receipt(path.read_bytes(), keys, answer_body=answer_body)
    if answer_body is not None:
        raise ReceiptError("a segment holds many records: an answer is compared with a receipt")
    return verify_archive(path, keys)


def lines_of(checks: Sequence[Check], language: Language) -> list[str]:
    """A line for each check, and one with the verdict."""
    lines = []
    for check in checks:
        title = TITLES.get(check.name, {}).get(language, check.name)
        # Chinese characters take two columns.
        width = 18 - sum(ord(character) > 0x2E7F for character in title)
        lines.append(f"{_MARKS[check.state]} {title:<{width}} {check.zh if language == 'zh' else check.en}")
    kind = "segment" if any(check.name == "manifest" for check in checks) else "receipt"
    return [*lines, _VERDICTS[verdict(checks)][language].format(what=_KINDS[kind][language])]


def as_json(checks: Sequence[Check]) -> str:
    """The same for programs: `ok`, `verdict` (final, pending, invalid), and the checks."""
    told = [{"name": each.name, "ok": each.ok, "state": each.state, "en": each.en, "zh": each.zh} for each in checks]
    outcome = verdict(checks)
    content = {"ok": outcome == "final", "verdict": outcome, "checks": told}
    return json.dumps(content, ensure_ascii=False, indent=2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 0 if every check passes, 1 if one fails or waits, 2 if a file or the key list cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m exchange.verify", description="Check a receipt or an archive segment offline."
    )
    parser.add_argument("file", type=Path, help="receipt, or segment of an archive of the log")
    parser.add_argument(
        "--keys", type=Path, required=True, help="key list: whom to trust; not from the receipt's sender"
    )
    parser.add_argument("--answer", type=Path, help="body of the answer, to be compared with the record")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--lang", choices=("en", "zh"), default="en")
    options = parser.parse_args(arguments)
    try:
        body = options.answer.read_bytes() if options.answer else None
        checks = verify_file(options.file, options.keys.read_bytes(), answer_body=body)
    except (OSError, ReceiptError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    text = as_json(checks) if options.json else "\n".join(lines_of(checks, options.lang))
    sys.stdout.write(text + "\n")
    return 0 if verdict(checks) == "final" else 1


if __name__ == "__main__":
    sys.exit(main())

"""Operational logs: events with fields, one JSON object a line. The exchange log is something else."""

from __future__ import annotations

import logging
import sys

import structlog


def configure_events(level: int = logging.INFO) -> None:
    """Write events of `level` and above to standard error. Called once, by a program's entry point."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )

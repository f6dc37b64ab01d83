"""The search index: derived from the log, rebuilt at will, never trusted by a proof."""

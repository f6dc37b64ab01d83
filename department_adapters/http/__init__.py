"""Sources over a department's own HTTP API."""

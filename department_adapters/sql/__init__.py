"""Sources over a department's SQL database."""

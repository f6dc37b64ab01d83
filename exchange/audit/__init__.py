"""Whether a stored log is what it was, and whether it tells what the departments' ledgers tell."""

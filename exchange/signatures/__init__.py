"""Who vouches for what: seals of gateways and departments, and the signatures of callers (RFC 9421)."""

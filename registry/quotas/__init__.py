"""How often a grant may be used: counted in one place for all gateways, exactly and durably."""

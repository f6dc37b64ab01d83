"""Whether a certificate leads to a trust anchor and is not revoked. Pure."""

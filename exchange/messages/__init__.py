"""What is asked and answered, in canonical bytes: statements, envelopes, paths, digests."""

"""Time by an outside authority: RFC 3161 time-stamp tokens, requests and answers, and who the authorities are."""

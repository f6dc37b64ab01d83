"""OpenAPI documents of services: what they say, what a new one changes, and for whom."""

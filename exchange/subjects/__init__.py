"""Under what hash a person or company stands on record: a key for each, so that one can be forgotten."""

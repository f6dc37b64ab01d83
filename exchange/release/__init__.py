"""What of an answer a grant releases: terms, masks, and how both are applied to a body."""

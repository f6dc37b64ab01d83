"""The straight path of one query from a gateway to its department and back."""

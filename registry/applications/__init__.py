"""Applications for resources of the catalogue: who asked for what, when an answer is owed, what was decided or missed."""

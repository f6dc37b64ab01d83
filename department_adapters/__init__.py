"""How a department answers: an adapter that dials out, asks the department's own system, and seals what it releases."""

from exchange import open_doorway

__getattr__, __dir__, __all__ = open_doorway(__name__, __file__)

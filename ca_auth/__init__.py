"""Who is calling: the certificate of a connection, what it proves, and what may reach the application at all."""

from exchange import open_doorway

__getattr__, __dir__, __all__ = open_doorway(__name__, __file__)

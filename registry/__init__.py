"""Who exists and who may ask for what."""

from exchange import open_doorway

__getattr__, __dir__, __all__ = open_doorway(__name__, __file__)

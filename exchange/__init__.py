"""What was asked, what was answered, and the record that it happened."""

from exchange.doorway import open_doorway

__getattr__, __dir__, __all__ = open_doorway(__name__, __file__)

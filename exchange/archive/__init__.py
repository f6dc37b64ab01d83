"""Archives of the exchange log: signed segments that verify by themselves, and restoring a log from them."""

"""The exchange log: what its records hold, and who writes, stores and reads them."""

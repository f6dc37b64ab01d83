"""The demo departments: who they are, their own systems and the data in them. Nothing here is needed in production."""

"""Every way in: the exchange face, the management and audit APIs, the command line. Programs enter by `gateway.cli`."""

__all__: list[str] = []

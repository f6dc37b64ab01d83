"""Schema changes of the registry, in order. Applied by `exchange.upgrade`."""

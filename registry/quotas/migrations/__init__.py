"""Schema changes of the tables of quotas, in order. Applied by `exchange.upgrade`."""

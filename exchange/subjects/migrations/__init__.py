"""Schema changes of the tables of subjects, in order. Applied by `exchange.upgrade`."""

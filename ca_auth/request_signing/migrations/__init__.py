"""Schema changes of the tables of `ca_auth`, in order. Applied by `exchange.upgrade`."""

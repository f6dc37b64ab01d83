"""A witness of logs by c2sp.org/tlog-witness: cosigns only what continues all that it cosigned before."""

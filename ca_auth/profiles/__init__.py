"""Whom a certificate names, and which CA may speak for whom."""

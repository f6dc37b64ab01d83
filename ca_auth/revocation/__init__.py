"""What is known about revoked certificates, live."""

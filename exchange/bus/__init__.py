"""Request, reply and large bodies over NATS."""

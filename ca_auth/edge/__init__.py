"""The connection: TLS, the client certificate it brings, and what may reach the application at all."""

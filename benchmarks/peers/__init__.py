"""What the mesh is compared with: nginx as the limit, two plain reverse proxies, a framework's RPC, a bare server."""

from benchmarks.peers.start import Peers, start_peers

__all__ = ["Peers", "start_peers"]

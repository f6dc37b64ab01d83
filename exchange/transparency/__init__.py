"""Merkle trees and signed checkpoints: RFC 9162, and C2SP's tiles, notes, cosignatures and policies."""

"""PeerWatt."""

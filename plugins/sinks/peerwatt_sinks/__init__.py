"""The sinks that come with PeerWatt, one file each."""

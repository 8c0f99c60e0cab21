"""The market mechanisms that come with PeerWatt, one file each."""

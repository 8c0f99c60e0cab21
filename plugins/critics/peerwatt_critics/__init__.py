"""The critics that come with PeerWatt, one file each."""

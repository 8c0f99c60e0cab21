"""The tasks that come with PeerWatt: cards, data and how the data were prepared."""

"""PeerWatt's own algorithms: scripted traders and learners, one readable file each."""

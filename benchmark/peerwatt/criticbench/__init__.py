"""The benchmark of critics: how valid, reliable, robust and dear the scores of a critic are."""

"""The way to a language model and back: requests, limits, retries, cache and transcript."""

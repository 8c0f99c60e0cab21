"""The report on a folder of results: one HTML page and one Markdown file, for people and for CI."""

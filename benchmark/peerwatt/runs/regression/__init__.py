"""Is the code of NEW worse than that of BASE? Golden files, scripted traders and learners."""

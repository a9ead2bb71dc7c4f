"""The nouns, all of them frozen: topology, nodes, steps, settings."""

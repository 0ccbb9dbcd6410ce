"""The host stage: checkpoint and front in, family bundle out; ``build`` is the way through."""

"""The host stage: checkpoint and front in, family bundle out.

The files in the order of the data flow: ``checkpoint/`` → ``export`` → ``units`` → ``front`` →
``prune`` → ``weights`` → ``verify`` → ``bundle_writer``; ``build`` runs them; ``targets`` make
the engines and need no torch.
"""

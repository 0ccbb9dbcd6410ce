"""When a configuration with several exits answers: tests solved from answers computed once.

``answers`` runs every exit on labelled data; ``policies`` makes tests of it, by one threshold,
by a budget, or learnt by ``recursion``; ``solving`` takes the best of them on other data, and
certifies it by ``bound`` on data that nothing else has seen; ``writing`` puts it into the
bundle.
"""

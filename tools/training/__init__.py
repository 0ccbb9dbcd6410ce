"""Training recipes: networks that tolerate the loss of parts of themselves.

``skipc train RECIPE`` runs one. They are meant to be read, and to start one's own from.
"""

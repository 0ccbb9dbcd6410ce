"""What a user would have without skipc, measured in the same loop (``--baseline``).

``registry`` names them, ``loading`` makes them ready and checks that they answer as ours do,
``found`` is what is reported of them. Each other file is one baseline or its options.
"""

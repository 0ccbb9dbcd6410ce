"""``trtbench``: a benchmark of a whole family, with the habits of TensorRT's ``trtexec``.

``command`` is the command line, ``measuring`` the way from a bundle to a ``report``, by the
``loop`` in which all take turns. ``output`` prints and writes the report.
"""

"""``trtbench``: a benchmark of a whole family, with the habits of TensorRT's ``trtexec``.

``command`` is the command line, ``loop`` what is timed, ``summary`` and ``interval`` the
statistics, ``report`` the document that is written and read again, ``compare`` two of them.
"""

"""``trtbench``: a benchmark of a whole family, with the habits of TensorRT's ``trtexec``.

``command`` is the command line, ``measuring`` the way from a bundle to a report. ``running``
is what is timed, ``baselines`` what it is compared with, ``results`` the statistics and the
documents, ``views`` what is printed.
"""

"""``make bench``: the bars, measured on this machine, with the naive ways beside ours.

Every comparison is made in one process or one run, interleaved, as a median of ratios.
"""

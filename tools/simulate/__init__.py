"""``skipc simulate``: a day of a device in seconds, with the governor that devices run.

A scenario says when calls arrive, how the device slows down, what its meter shows and what is
granted. It is replayed on a clock that is moved by hand, through ``AdaptiveEngine`` itself
with the null backend, and compared with an oracle that knows the device.
"""

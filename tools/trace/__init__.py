"""What ``skipc trace`` makes of a trace: a summary, a PNG and a page."""

"""What people run: the ``skipc`` command, the training recipes, the demo, the benchmark."""

"""The command line's options: what is measured, how a GPU is called, what is refused."""

"""What a configuration decides: one file or folder per axis."""

"""Writing a bundle: files, arrays, the weight store, the manifest."""

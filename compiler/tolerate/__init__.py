"""How many memory errors a bundle's configurations stand, and which memory that allows."""

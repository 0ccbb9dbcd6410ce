"""What was found: statistics, the report, its files, the comparison of two of them."""

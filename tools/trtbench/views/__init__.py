"""What ``trtbench`` prints."""

"""What is seen from outside: metrics and the log."""

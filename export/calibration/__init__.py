"""Text of our own to measure activations with: in mix/, prose and code (passages between lines of `---`) and chat."""

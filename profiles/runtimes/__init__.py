"""What is measured, and what runs it: a file for each kind of runtime, all alike (`protocol`)."""

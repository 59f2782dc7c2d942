"""What a person types: one file a command; each parses, calls the public API and prints."""

"""Whether an engine answers what its tasks' own graphs answer, and where it goes wrong."""

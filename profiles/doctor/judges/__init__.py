"""What the answers of probes mean, an area in each module. Nothing here loads a library."""

"""Tasks ready to answer: a file for each kind of source, all alike (`find`)."""

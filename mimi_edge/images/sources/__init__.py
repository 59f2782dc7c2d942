"""Where images come from: a file a kind of source, and `find`, which knows all of them."""

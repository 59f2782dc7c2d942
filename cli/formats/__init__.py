"""What `mimi-edge export` can make, a module for each format."""

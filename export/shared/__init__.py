"""One graph for all tasks: adapters and head as inputs."""

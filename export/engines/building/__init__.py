"""From a package's graphs to an engine: what is asked for, the graph to build from, and the build."""

"""From a task file to something that runs: backbone graph, merge, packages."""

"""The edits of `mimi_edge.methods.edits` in a backbone's graph, and nothing of any method."""

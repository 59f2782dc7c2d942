"""Methods side by side: the same budgets, passes and tries for each, in a folder that can be gone on with."""

"""Where engines lie in a package, and the sidecars that say what they are."""

"""Graph passes: each takes a model, changes it in place, and says whether it changed anything."""

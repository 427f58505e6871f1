"""The texts of the workspace that the engine may learn: which, when, and how they are read."""

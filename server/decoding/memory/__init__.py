"""What the workspace says: which tokens followed these elsewhere in the user's own code."""

"""The pages of what is protected, and for whom."""

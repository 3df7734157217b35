"""The composition root: the one place that reads arguments and the environment and builds adapters."""

"""`wardgate admin`: everything that an administrator or operator may do, over REST and nothing else."""

from wardgate.cli.admin.execution import execute, main

__all__ = ["execute", "main"]

"""`wardgate admin`: everything that an administrator or operator may do, over REST and nothing else."""

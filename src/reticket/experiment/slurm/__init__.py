"""Tasks as jobs of a SLURM cluster. Each job of an array is a worker that takes tasks from a board until none is left.

A queue is waited in for minutes and many tasks take seconds, so a job is not a task: the jobs of an array share one
plan, each takes what may start next, and leaves when nothing is left or its time is up. They need nobody to hand tasks
out: who sent them may log off, and whoever gives the same command later finds them by their name in the queue and
listens, instead of sending more. Taking is making a link, which one of two succeeds in on any file system, also where
locks are not known. Jobs and driver speak through small files of JSON beside the store's checkpoints alone.
"""

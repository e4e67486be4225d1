"""Sparse training in other people's loops: a mask that is held by Lightning, the Trainer of transformers, Accelerate.

Each lives in a module of its own, which alone imports the package it is for: `lightning`, `hugging_face`, `accelerate`.
In a loop of your own, `DistributedDataParallel` included, `reticket.sparse` is all there is to it.
"""

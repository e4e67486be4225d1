"""What a loan of a GPU for 15 minutes is used for: a smoke test, throughput, and the paper's row; `docs/gpu.md`."""

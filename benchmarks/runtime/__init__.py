"""The parts of `runtime_bench`, and the small programs that they start."""

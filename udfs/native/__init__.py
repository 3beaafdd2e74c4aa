"""Native kernels of the hot path: C that `make setup` compiles with the pinned Zig toolchain."""

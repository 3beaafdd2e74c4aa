"""Models to binaries for the vehicle: export, quantise, compile per target, compare, bundle."""

"""Export, quantise, compile per target, parity, hand-off bundle."""

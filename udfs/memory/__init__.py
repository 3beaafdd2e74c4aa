"""Memory that the readers and decoders of a process hand to each other."""

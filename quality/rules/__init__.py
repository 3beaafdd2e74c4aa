"""One rule a module; `quality.registry` lists them."""

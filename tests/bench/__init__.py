"""The benchmarks; see ``__main__.py``."""

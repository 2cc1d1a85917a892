"""Scripts that put one durable workflow library each through the same workloads.

``python <driver> <workload> <folder> [--count N]``, with the Python of a virtual environment that has the library. Each
script runs by itself and imports its neighbour as ``common``; this file only makes the folder a package for the linter.
"""

"""Scripts of the benchmarks that each run by themselves, as the drivers do; see ``../drivers``.

They are not run as modules of ``tests``: that package imports pytest, which would be half of the memory measured. This
file only makes the folder a package for the linter.
"""

"""Kernels of our own for experts and dense products: C++ beside this file, and the Python that compiles and opens it.

`build.py` compiles the library when moedge is installed, `library.py` opens it. What the operators compute and how
their weights lie is said in docs/kernels.md.
"""

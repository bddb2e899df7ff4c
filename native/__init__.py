"""The engine and its Python door: `native` is a C program beside this package; engine.py runs it, codes.py is the table of outcomes."""

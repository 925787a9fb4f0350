"""One rule, one file. The file's name is the finding's code, its docstring the manual page.

A rule is a function `find(case)` that yields findings. It stays silent when it is not sure.
"""

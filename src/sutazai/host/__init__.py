"""Why it exists: facts and levers of the Linux kernel in one place, so that no other package reads ``/proc`` by itself.

Standard library only and no policy: a module here says what is, or does what it is told; it never decides. Everything
that reads a file tree takes the root of that tree as an argument, so that fixtures stand in for a kernel.
"""

"""How a mesh is brought up: the one-machine mesh of `datong up`, its bus and its demo departments.

This room joins all the others and nobody joins it: modules are imported by name, and importing one starts nothing.
"""

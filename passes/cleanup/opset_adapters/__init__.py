"""How each operator's older forms become its opset-21 form: one small function for each step at which a form changed.

A step that is not listed here changed nothing but the types the operator takes.
"""

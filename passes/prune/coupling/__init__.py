"""Which slices of which weights must go together.

Every index of every axis of every value has a class. A rule for each operator (in the modules beside this one) ties the classes that can only go
together: output channel 5 of a convolution, entry 5 of its bias, of the normalisation after it, input channel 5 of whatever reads it. What is left
when all nodes have been seen are the groups of `groups.coupled_groups`; `shrinking.shrink` takes classes out of the graph. No architecture is known by
name: an operator without a rule holds what it touches as it is.
"""

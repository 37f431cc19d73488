"""How a coded weight stands in a graph: kernels of the runtime that take it as it is, and standard operators for everything else."""

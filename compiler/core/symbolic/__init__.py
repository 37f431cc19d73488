"""How shapes and small integer tensors follow from a node's inputs."""

NAME = "the handler's neighbour"

"""Small graphs, one for each way in which an op can be written, alone and beside other ops."""

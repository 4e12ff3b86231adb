"""Many phones on many hosts, by Dask distributed: a matrix of jobs, each a command of the harness on one device."""

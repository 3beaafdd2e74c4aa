"""The front door: the drivelake command and the names a notebook imports."""

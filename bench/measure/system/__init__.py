"""Facts of the machine: devices, host, backends, energy, interference."""

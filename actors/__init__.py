"""Ray actors: prosumer hosts, network operator, and the driver of a market day."""

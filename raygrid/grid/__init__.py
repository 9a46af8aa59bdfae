"""Networks, PTDF, voltage sensitivities and AC load flow."""

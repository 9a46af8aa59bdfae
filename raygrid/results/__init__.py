"""Result store, tables, figures and report."""

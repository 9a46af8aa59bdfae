"""Learning: data sets, forecasters and bidders; torch is imported only where it trains."""

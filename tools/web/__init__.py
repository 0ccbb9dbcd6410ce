"""Pages that need no network: one skeleton for every page that skipc writes."""

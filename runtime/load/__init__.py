"""From a bundle to engines that are ready: opening, residency, operating points."""

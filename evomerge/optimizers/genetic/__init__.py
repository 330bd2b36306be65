"""Evolution of populations: NSGA-II, NSGA-III, SMS-EMOA, MOEA/D, GA and DE."""

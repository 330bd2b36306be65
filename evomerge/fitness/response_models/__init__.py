"""Models of the responses of a pool: what selections and estimators are computed from."""

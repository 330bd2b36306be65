"""M2N2: competition, attraction and split points over an archive."""

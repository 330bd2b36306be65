"""Ask/tell optimizers behind one contract."""

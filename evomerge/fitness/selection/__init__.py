"""Selection of the items that candidates answer (MERGE³'s "Extract")."""

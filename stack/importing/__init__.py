"""`dear import`: customers, purchases and interactions from files, once however often they are imported."""

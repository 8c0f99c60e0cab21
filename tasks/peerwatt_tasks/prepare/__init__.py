"""Rebuilds the arrays that PeerWatt ships: `python -m peerwatt_tasks.prepare --help`.

Not used at run time. It reads the published wheel once, checks its hash, says every drop, and
writes integer `.npz` files without pickles; `data/README.md` states their units and licence.
"""

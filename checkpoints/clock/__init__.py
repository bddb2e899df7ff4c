"""The clock: `manage.py scheduler`. leader.py makes one process the leader and wakes it; passes.py is what it does at
every tick; draining.py and queueing.py are its larger passes."""

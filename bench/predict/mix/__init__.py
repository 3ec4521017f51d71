"""`bench mix`: a mixed cluster, from the measured speed of each kind of accelerator alone.

`sources` makes kinds of what the user names, `plans` the even and balanced plans of a workload, `cluster` all that is
known of the mix, `tables` and `findings` show it.
"""

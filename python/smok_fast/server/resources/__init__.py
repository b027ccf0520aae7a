"""What the server has calls for, one module each.

A module holds the calls for devices, the calls for administrators, and the statements behind both.
"""

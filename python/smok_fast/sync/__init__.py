"""What a device and the server say to each other in the background, one module per subject.

Each conversation is a :class:`~smok_fast.sync.base.SyncTask`. The threads decide when to run them
and what to do about a lost link; the tasks know nothing about threads.
"""

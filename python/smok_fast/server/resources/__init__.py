"""The resources of the API, one module each: its calls for devices and for administrators, and its statements."""

"""What can be checked without a server: `python3 -m unittest discover -s scripts -t scripts`."""

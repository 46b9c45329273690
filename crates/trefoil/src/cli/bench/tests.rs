//! Loads against servers that are made for the test.

//! Hash functions, hash tags and distributions, bit for bit as twemproxy computes them. Pure.

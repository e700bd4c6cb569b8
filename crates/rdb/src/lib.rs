//! RDB files and DUMP payloads: decoding, checking, and one canonical form for every version. Pure.

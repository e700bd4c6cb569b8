//! Redis wire protocol: scanning, encoding, and the command table as data. Pure: no sockets, no clock.

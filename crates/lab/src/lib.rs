//! Real servers of many versions, load, ledger and fault injection: what demo, tests and benches share.

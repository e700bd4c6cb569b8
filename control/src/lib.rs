//! The upgrade: plan, journal, phases, snapshot, link, verification, cutover, rollback.

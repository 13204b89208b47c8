//! The data plane as state machines without I/O.

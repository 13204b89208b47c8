//! Runs flows: tokio tasks, timers and shutdown around the pure cores.

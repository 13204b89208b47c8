//! Properties as written, and configuration as meant.

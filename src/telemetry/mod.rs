//! Logs, declared once.

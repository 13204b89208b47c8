//! The offset map: which target offset a source offset has become.

//! Frames of the launcher protocol.

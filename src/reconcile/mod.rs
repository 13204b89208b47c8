//! The control plane: desired and actual state, the plan between them, and its application.

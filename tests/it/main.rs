//! System tests over the real binary.

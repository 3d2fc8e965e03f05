//! Packet views and builders, checksums. Knows nothing but bytes.

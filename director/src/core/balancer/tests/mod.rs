//! The balancer as a whole.

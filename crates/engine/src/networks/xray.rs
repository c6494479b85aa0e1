//! The way of a packet from a container to the wire and back. Under construction.

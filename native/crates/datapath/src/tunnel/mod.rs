//! The tunnel engine: a client's or a gateway's whole packet path between the TUN device and the network.

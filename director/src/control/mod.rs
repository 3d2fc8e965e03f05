//! ipvsadm's grammar and texts, and the protocol of the control socket.

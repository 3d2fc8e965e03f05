//! Why a packet was dropped. Every drop has a name and is counted under it.

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// Why a packet was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// All of them, in the order of their declaration.
            pub const ALL: &[Reason] = &[$(Reason::$variant,)*];

            /// The name in listings, logs and metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Reason::$variant => $name,)*
                }
            }
        }
    };
}

reasons! {
    /// The connection's real server was removed and `expire_nodest_conn` is 0.
    ServerRemoved => "server_removed",
    /// The connection table holds as many connections as it may.
    TableFull => "table_full",
}
